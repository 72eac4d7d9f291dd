//! The network: weights checked before they are parsed, a tract plan, scores.
//!
//! Terms: *logits* are what the network puts out; *scores* are 0..1, one a label; *the score* of a window is the sum over
//! the alarm labels. This file reads bytes that the caller has read: `detector` opens no file.

use std::io::Read;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tract_core::internal::*;
use tract_nnef::ast::Identifier;
use tract_onnx::prelude::{InferenceFact, InferenceModelExt};

use crate::limits;
use crate::manifest::{Manifest, Output};

/// Where matrix products run: the caller's thread, or a pool that the caller made (`detector` starts no thread).
pub use tract_linalg::multithread::Executor;

/// Ending of the tensor that holds the scales of an 8-bit one: per-channel weights, computed in float.
pub const SCALE_SUFFIX: &str = ".scale";

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
}

/// Why a window got no score.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// tract failed.
    #[error("inference failed: {0}")]
    Failed(String),
    /// The network put out something that is no number: never an alarm.
    #[error("the network put out a value that is not finite")]
    NotFinite,
}

/// A network ready to run, with its buffers. A clone shares the plan and its weights and has buffers of its own.
#[derive(Clone)]
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    executor: Executor,
    shape: [usize; 4],
    output: Output,
    temperature: f32,
    alarm_places: Vec<usize>,
    scores: Vec<f32>,
}

impl Model {
    /// Checks `bytes` (size, SHA-256, shapes) against `manifest` and plans the network.
    ///
    /// # Errors
    /// [`ModelError`]; nothing is parsed before size and hash agree.
    pub fn load(manifest: &Manifest, bytes: &[u8], executor: Executor) -> Result<Self, ModelError> {
        let file = manifest.file.clone();
        if bytes.len() as u64 > limits::MODEL_BYTES_MAX {
            return Err(ModelError::TooLarge { file, bytes: bytes.len() as u64, max: limits::MODEL_BYTES_MAX });
        }
        let found = sha256_hex(bytes);
        if !found.eq_ignore_ascii_case(&manifest.sha256) {
            return Err(ModelError::Hash { file, found, expected: manifest.sha256.clone() });
        }
        Self::plan(manifest, bytes, executor)
    }

    fn plan(manifest: &Manifest, bytes: &[u8], executor: Executor) -> Result<Self, ModelError> {
        let file = &manifest.file;
        let refused = |error: TractError| ModelError::Parse { file: file.clone(), cause: format!("{error:#}") };
        let shape = manifest.input_shape();
        let model = if file.ends_with(".onnx") {
            typed_from_onnx(bytes, Some(shape)).map_err(refused)?
        } else {
            typed_from_nnef(bytes).map_err(refused)?
        };
        check_shapes(manifest, &model)?;
        let plan = model.into_optimized().and_then(|model| model.into_runnable()).map_err(refused)?;
        Ok(Self {
            plan,
            executor,
            shape,
            output: manifest.output,
            temperature: manifest.temperature as f32,
            alarm_places: manifest.alarm_places().collect(),
            scores: vec![0.0; manifest.labels.len()],
        })
    }

    /// Scores of `picture` (`[channels, n_mels, frames]`), one a label, 0..1.
    ///
    /// # Errors
    /// [`RunError`]; the scores of the window before are gone then.
    ///
    /// # Panics
    /// Where `picture` has another length than the manifest's shape.
    pub fn run(&mut self, picture: &[f32]) -> Result<&[f32], RunError> {
        assert_eq!(picture.len(), self.shape.iter().product::<usize>(), "a picture has one size");
        let failed = |error: TractError| RunError::Failed(format!("{error:#}"));
        let input = Tensor::from_shape(&self.shape, picture).map_err(failed)?;
        let plan = &self.plan;
        let outputs =
            tract_linalg::multithread::multithread_tract_scope(self.executor.clone(), || plan.run(tvec!(input.into())))
                .map_err(failed)?;
        let plain = outputs[0].try_as_plain_ram().map_err(failed)?;
        let logits = plain.as_slice::<f32>().map_err(failed)?;
        if logits.len() != self.scores.len() || logits.iter().any(|x| !x.is_finite()) {
            return Err(RunError::NotFinite);
        }
        match self.output {
            Output::Logits => softmax(logits, self.temperature, &mut self.scores),
            Output::Probabilities => {
                for (score, p) in self.scores.iter_mut().zip(logits) {
                    *score = p.clamp(0.0, 1.0);
                }
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

/// softmax of `logits / temperature`, stable for large logits.
fn softmax(logits: &[f32], temperature: f32, scores: &mut [f32]) {
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

/// A typed graph from ONNX bytes; `shape` fixes the input where the file leaves it open.
///
/// # Errors
/// tract's.
pub fn typed_from_onnx(bytes: &[u8], shape: Option<[usize; 4]>) -> TractResult<TypedModel> {
    // Shapes that an exporter noted along the way may name a free batch size; the input's shape says all of them anew.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.model_for_read(&mut &bytes[..])?;
    ensure!(model.inputs.len() == 1, "the network has {} inputs, must have one", model.inputs.len());
    if let Some(shape) = shape {
        let own = model.input_fact(0)?.shape.as_concrete_finite()?;
        if own.is_none() {
            model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
        }
    }
    model.into_typed()
}

/// A typed graph from a `.nnef.tgz`; weights stored in 16 or 8 bits become f32 here.
fn typed_from_nnef(bytes: &[u8]) -> TractResult<TypedModel> {
    // The archive is unpacked under a bound: gzip makes a thousandfold of nothing.
    let mut tar = flate2::read::GzDecoder::new(bytes).take(limits::MODEL_UNPACKED_BYTES_MAX);
    let nnef = tract_nnef::nnef();
    let mut proto = nnef.proto_model_for_read(&mut tar)?;
    let labels: Vec<Identifier> = proto.tensors.keys().cloned().collect();
    for label in labels.iter().filter(|label| !label.0.ends_with(SCALE_SUFFIX)) {
        let tensor = &proto.tensors[label];
        let widened = match tensor.datum_type() {
            DatumType::F16 => tensor.cast_to::<f32>()?.into_owned(),
            DatumType::I8 => {
                let scale = Identifier(format!("{}{SCALE_SUFFIX}", label.0));
                let Some(scale) = proto.tensors.get(&scale) else {
                    bail!("{}: 8-bit weights without {SCALE_SUFFIX}", label.0)
                };
                dequantised(tensor, scale)?
            }
            _ => continue,
        };
        proto.tensors.insert(label.clone(), Arc::new(widened));
    }
    proto.tensors.retain(|label, _| !label.0.ends_with(SCALE_SUFFIX));
    nnef.model_for_proto_model(&proto)
}

/// f32 weights from 8-bit ones with one scale for each index of the first axis.
fn dequantised(weights: &Tensor, scale: &Tensor) -> TractResult<Tensor> {
    let mut wide = weights.cast_to::<f32>()?.into_owned();
    let scale = scale.try_as_plain_ram()?;
    let scale = scale.as_slice::<f32>()?;
    let rows = weights.shape().first().copied().unwrap_or(0);
    ensure!(rows == scale.len() && rows > 0, "{rows} rows of weights, {} scales", scale.len());
    let row = wide.len() / rows;
    let mut plain = wide.try_as_plain_ram_mut()?;
    for (values, scale) in plain.as_slice_mut::<f32>()?.chunks_exact_mut(row.max(1)).zip(scale) {
        for value in values {
            *value *= scale;
        }
    }
    Ok(wide)
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
