//! The network: weights checked before they are parsed, an engine that runs it, scores.
//!
//! Terms: *logits* are what the network puts out; *scores* are 0..1, one a label; *the score* of a window is the sum over
//! the alarm labels. The *engine* is our own kernels where the graph is one that they know (`native`), else tract.
//! This file reads bytes that the caller has read: `detector` opens no file.

use std::borrow::Cow;
use std::sync::Arc;

use kernels::{Kernels, Network, Workspace};
use sha2::{Digest, Sha256};
use tract_core::internal::*;

use crate::golden::Difference;
use crate::graph;
use crate::guarded::guarded;
use crate::limits;
use crate::manifest::{Manifest, Output};
use crate::native::{self, Native};

pub use crate::graph::{SCALE_SUFFIX, typed_from_onnx};
pub use kernels::Layer;
/// Where the network runs: the caller's thread, or a pool that the caller made (`detector` starts no thread).
pub use tract_linalg::multithread::Executor;

/// Why a model was refused. Every text begins with the weights file's name.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Larger than any model here.
    #[error("{file}: {bytes} bytes, more than {max} are not read")]
    TooLarge {
        /// File name.
        file: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// Not the file that the manifest was written for.
    #[error(
        "{file}: its SHA-256 is {found}, manifest key `sha256` says {expected}: the file is damaged or belongs to another manifest"
    )]
    Hash {
        /// File name.
        file: String,
        /// The file's.
        found: String,
        /// The manifest's.
        expected: String,
    },
    /// The parser or the planner of tract refused it.
    #[error("{file}: not a network that can be run: {cause}")]
    Parse {
        /// File name.
        file: String,
        /// tract's words.
        cause: String,
    },
    /// Fits the hash, but not the manifest.
    #[error("{file}: manifest key `{key}`: {cause}")]
    Shape {
        /// File name.
        file: String,
        /// The key of the manifest that says otherwise.
        key: &'static str,
        /// What stands against what.
        cause: String,
    },
    /// Fits the hash and the shapes, and makes something else of a known sound than when it was converted.
    #[error("{file}: manifest key `golden`: of the self-test's sound {cause}")]
    Golden {
        /// File name.
        file: String,
        /// What differs.
        cause: Difference,
    },
}

/// Why a window got no score.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// tract failed.
    #[error("inference failed: {0}")]
    Failed(String),
    /// The network put out something that is no number: never an alarm.
    #[error("the network put out a value that is not finite")]
    NotFinite,
    /// The manifest says that the network puts out probabilities, and it does not: cut to 0..1 they would say nothing, and never alarm.
    #[error("`output`: is \"probabilities\", and the network put out {0}, which is none; is it \"logits\"?")]
    NoProbability(f32),
}

/// Which engine may run a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Our kernels where they know the graph, else tract.
    #[default]
    Best,
    /// tract, for comparison.
    Tract,
}

/// A network ready to run, with its buffers. A clone shares the weights and has buffers of its own.
#[derive(Clone)]
pub struct Model {
    running: Running,
    executor: Executor,
    shape: [usize; 4],
    output: Output,
    temperature: f32,
    alarm_places: Vec<usize>,
    scores: Vec<f32>,
}

#[derive(Clone)]
enum Running {
    Native { network: Arc<Network>, workspace: Workspace, softmax: bool },
    Tract { plan: Arc<TypedRunnableModel>, why: String },
}

impl Model {
    /// Checks `bytes` (size, SHA-256, shapes) against `manifest` and makes the network ready.
    ///
    /// # Errors
    /// [`ModelError`]; nothing is parsed before size and hash agree.
    pub fn load(manifest: &Manifest, bytes: &[u8], executor: Executor) -> Result<Self, ModelError> {
        Self::load_for(manifest, bytes, executor, Engine::Best)
    }

    /// [`Model::load`] with a say in which engine runs it. Bytes that are handed over are dropped once they are parsed.
    ///
    /// # Errors
    /// [`ModelError`]
    pub fn load_for<'a>(
        manifest: &Manifest,
        bytes: impl Into<Cow<'a, [u8]>>,
        executor: Executor,
        engine: Engine,
    ) -> Result<Self, ModelError> {
        let file = manifest.file.clone();
        let bytes: Cow<'_, [u8]> = bytes.into();
        if bytes.len() as u64 > limits::MODEL_BYTES_MAX {
            return Err(ModelError::TooLarge { file, bytes: bytes.len() as u64, max: limits::MODEL_BYTES_MAX });
        }
        let found = sha256_hex(&bytes);
        if !found.eq_ignore_ascii_case(&manifest.sha256) {
            return Err(ModelError::Hash { file, found, expected: manifest.sha256.clone() });
        }
        let made = || Self::plan(manifest, bytes, executor, engine).and_then(|model| model.self_tested(manifest));
        let model = guarded(made).unwrap_or_else(|cause| Err(ModelError::Parse { file, cause }));
        // What parsing and packing took is several times what stays.
        kernels::give_back_memory();
        model
    }

    fn self_tested(mut self, manifest: &Manifest) -> Result<Self, ModelError> {
        let Some(golden) = &manifest.golden else { return Ok(self) };
        match golden.check(manifest, &mut self) {
            Ok(()) => Ok(self),
            Err(cause) => Err(ModelError::Golden { file: manifest.file.clone(), cause }),
        }
    }

    fn plan(manifest: &Manifest, bytes: Cow<'_, [u8]>, executor: Executor, engine: Engine) -> Result<Self, ModelError> {
        let file = &manifest.file;
        let refused = |error: TractError| ModelError::Parse { file: file.clone(), cause: format!("{error:#}") };
        let shape = manifest.input_shape();
        let model = if file.ends_with(".onnx") {
            graph::typed_from_onnx(&bytes, Some(shape)).map_err(refused)?
        } else {
            graph::typed_from_nnef(&bytes).map_err(refused)?
        };
        drop(bytes);
        check_shapes(manifest, &model)?;
        let model = model.into_decluttered().map_err(refused)?;
        let fits = match engine {
            Engine::Best => native::fits(&model, Kernels::best()),
            Engine::Tract => Err("asked for".into()),
        };
        let running = match fits {
            Ok(()) => {
                let Native { network, softmax } = native::network(model, Kernels::best(), manifest.arithmetic.into())
                    .map_err(|cause| ModelError::Parse { file: file.clone(), cause })?;
                Running::Native { workspace: network.workspace(), network: Arc::new(network), softmax }
            }
            Err(why) => Running::Tract {
                plan: model.into_optimized().and_then(|model| model.into_runnable()).map_err(refused)?,
                why,
            },
        };
        Ok(Self {
            running,
            executor,
            shape,
            output: manifest.output,
            temperature: manifest.temperature as f32,
            alarm_places: manifest.alarm_places().collect(),
            scores: vec![0.0; manifest.labels.len()],
        })
    }

    /// What runs the network, in words.
    pub fn engine(&self) -> String {
        match &self.running {
            Running::Native { network, .. } => format!("kernels {}", network.kernels().name()),
            Running::Tract { why, .. } => format!("tract ({why})"),
        }
    }

    /// The steps of a run, where our own kernels do it: [`Model::run_watched`] counts them.
    pub fn layers(&self) -> Vec<Layer> {
        match &self.running {
            Running::Native { network, .. } => network.layers(),
            Running::Tract { .. } => Vec::new(),
        }
    }

    /// Scores of `picture` (`[channels, n_mels, frames]`), one a label, 0..1.
    ///
    /// # Errors
    /// [`RunError`]; the scores of the window before are gone then.
    ///
    /// # Panics
    /// Where `picture` has another length than the manifest's shape.
    pub fn run(&mut self, picture: &[f32]) -> Result<&[f32], RunError> {
        self.run_watched(picture, &mut |_| ())
    }

    /// [`Model::run`] at temperature 1: what the weights say, whatever they were calibrated to since.
    pub(crate) fn run_uncalibrated(&mut self, picture: &[f32]) -> Result<&[f32], RunError> {
        let temperature = std::mem::replace(&mut self.temperature, 1.0);
        let ran = self.run(picture).map(drop);
        self.temperature = temperature;
        ran.map(|()| &self.scores[..])
    }

    /// [`Model::run`]; `after` is called when a step is done, with its place in [`Model::layers`].
    ///
    /// # Errors
    /// [`RunError`]
    ///
    /// # Panics
    /// As [`Model::run`].
    pub fn run_watched(&mut self, picture: &[f32], after: &mut (dyn FnMut(usize) + Send)) -> Result<&[f32], RunError> {
        assert_eq!(picture.len(), self.shape.iter().product::<usize>(), "a picture has one size");
        let failed = |error: TractError| RunError::Failed(format!("{error:#}"));
        match &mut self.running {
            Running::Native { network, workspace, softmax } => {
                // A ReLU makes 0 of what is no number: it must not come that far. (Weights are finite; sums that overflow all the same are
                // those of no network that anybody trained, and the manifest's golden scores show them.)
                if picture.iter().any(|x| !x.is_finite()) {
                    return Err(RunError::NotFinite);
                }
                let pool = match &self.executor {
                    Executor::MultiThread(pool) => Some(&**pool),
                    _ => None,
                };
                let logits = network.run(workspace, picture, pool, after);
                put_scores(logits, *softmax, self.output, self.temperature, &mut self.scores)?;
            }
            Running::Tract { plan, .. } => {
                let input = Tensor::from_shape(&self.shape, picture).map_err(failed)?;
                let outputs = tract_linalg::multithread::multithread_tract_scope(self.executor.clone(), || {
                    plan.run(tvec!(input.into()))
                })
                .map_err(failed)?;
                let plain = outputs[0].try_as_plain_ram().map_err(failed)?;
                let logits = plain.as_slice::<f32>().map_err(failed)?;
                put_scores(logits, false, self.output, self.temperature, &mut self.scores)?;
            }
        }
        Ok(&self.scores)
    }

    /// The score of the alarm labels together, from the last `run`.
    pub fn alarm_score(&self) -> f32 {
        self.alarm_places.iter().map(|&place| self.scores[place]).sum::<f32>().clamp(0.0, 1.0)
    }

    /// Place of the alarm label with the largest score of the last `run`.
    pub fn alarm_label(&self) -> usize {
        self.alarm_places.iter().copied().max_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b])).unwrap_or(0)
    }
}

/// SHA-256 as 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How far beyond 0 and 1 rounding may put a probability.
const ROUNDED: f32 = 1e-3;

/// Scores from what the network put out; `softmax_left` where the graph ends in one that the engine left to us.
fn put_scores(
    outputs: &[f32],
    softmax_left: bool,
    output: Output,
    temperature: f32,
    scores: &mut [f32],
) -> Result<(), RunError> {
    if outputs.len() != scores.len() || outputs.iter().any(|x| !x.is_finite()) {
        return Err(RunError::NotFinite);
    }
    match (output, softmax_left) {
        (Output::Logits, false) => softmax(outputs, temperature, scores),
        (Output::Probabilities, true) => softmax(outputs, 1.0, scores),
        (Output::Logits, true) => {
            let mut inner = [0f32; limits::LABELS_MAX];
            let inner = &mut inner[..outputs.len()];
            softmax(outputs, 1.0, inner);
            softmax(inner, temperature, scores);
        }
        (Output::Probabilities, false) => {
            if let Some(p) = outputs.iter().find(|p| !(-ROUNDED..=1.0 + ROUNDED).contains(*p)) {
                return Err(RunError::NoProbability(*p));
            }
            for (score, p) in scores.iter_mut().zip(outputs) {
                *score = p.clamp(0.0, 1.0);
            }
        }
    }
    if scores.iter().all(|score| score.is_finite()) { Ok(()) } else { Err(RunError::NotFinite) }
}

/// softmax of `logits / temperature`, stable for large logits.
pub(crate) fn softmax(logits: &[f32], temperature: f32, scores: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (score, logit) in scores.iter_mut().zip(logits) {
        *score = ((logit - largest) / temperature).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

fn check_shapes(manifest: &Manifest, model: &TypedModel) -> Result<(), ModelError> {
    let wrong = |key, cause: String| Err(ModelError::Shape { file: manifest.file.clone(), key, cause });
    let shape_of = |fact: TractResult<&TypedFact>| {
        fact.ok().and_then(|fact| fact.shape.as_concrete().map(<[usize]>::to_vec)).unwrap_or_default()
    };
    if model.inputs.len() != 1 || model.outputs.len() != 1 {
        return wrong(
            "labels",
            format!(
                "the network has {} inputs and {} outputs, must have one of each",
                model.inputs.len(),
                model.outputs.len()
            ),
        );
    }
    let (input, expected) = (shape_of(model.input_fact(0)), manifest.input_shape());
    if input != expected {
        let key = match input.iter().zip(&expected).position(|(a, b)| a != b) {
            Some(1) => "front_end.colormap",
            Some(2) => "front_end.n_mels",
            Some(3) => "front_end.window_s",
            _ => "front_end",
        };
        return wrong(
            key,
            format!(
                "the network's input is {input:?}, the manifest makes pictures of {expected:?} (batch, channels, mel bands, frames)"
            ),
        );
    }
    let output = shape_of(model.output_fact(0));
    if output != [1, manifest.labels.len()] {
        return wrong(
            "labels",
            format!("the network's output is {output:?}, the manifest has {} labels", manifest.labels.len()),
        );
    }
    Ok(())
}
