//! `host-tools convert --onnx FILE --manifest FILE --out DIR [--weights f32|f16|int8]`
//!
//! Makes a model folder from a trained network: ONNX is read by tract, its constants folded, and written as NNEF, the form
//! that the device parses. Weights are stored in 32 or 16 bits, or in 8 with a scale for each output channel; what
//! it computes in, float or 8-bit integers, is the manifest's `arithmetic`. The result is loaded as the device loads it and compared with the ONNX before it is kept.

mod external;

use std::collections::BTreeMap;
use std::f64::consts::E;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use detector::golden::Golden;
use detector::guarded::guarded;
use detector::manifest::{Manifest, Output};
use detector::model::{Executor, Model, SCALE_SUFFIX, sha256_hex, typed_from_onnx};
use files::model_dir::read_text;
use files::{say, tell};
use tract_core::internal::{DatumType, Tensor};
use tract_nnef::tensors::{read_tensor, write_tensor};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The trained network
    #[arg(long)]
    onnx: PathBuf,
    /// Its manifest, without `file`, `sha256` and `[measured]`
    #[arg(long)]
    manifest: PathBuf,
    /// The model folder to write
    #[arg(long)]
    out: PathBuf,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
}

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Weights {
    F32,
    F16,
    Int8,
}

/// Tensors under this stay in f32: biases cost nothing and matter most.
const SMALL: usize = 4096;
/// Largest difference of a score between the ONNX and what was written, by storage.
const fn tolerance(weights: Weights) -> f64 {
    match weights {
        Weights::F32 => 1e-4,
        Weights::F16 => 1e-2,
        Weights::Int8 => 0.2,
    }
}

/// Writes the model folder.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let bar = crate::progress::spinner("converting and comparing");
    let text = read_text(&args.manifest)?;
    let named = args.manifest.display().to_string();
    let mut manifest = Manifest::parse_unconverted(&named, &text).map_err(files::model_dir::ModelDirError::Manifest)?;
    let onnx = external::read_whole(&args.onnx).with_context(|| args.onnx.display().to_string())?;

    let mut as_onnx = manifest.clone();
    as_onnx.file = args.onnx.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ensure!(as_onnx.file.ends_with(".onnx"), "{}: --onnx must name a file that ends in .onnx", args.onnx.display());
    as_onnx.sha256 = sha256_hex(&onnx);
    let mut reference = Model::load(&as_onnx, &onnx, Executor::SingleThread)?;

    let made = guarded(|| nnef(&onnx, &manifest, args.weights)).unwrap_or_else(|panic| Err(anyhow::anyhow!(panic)));
    let weights = made.with_context(|| args.onnx.display().to_string())?;
    manifest.file = "model.nnef.tgz".into();
    manifest.sha256 = sha256_hex(&weights);
    (manifest.measured, manifest.golden) = (None, None);
    let mut written = Model::load(&manifest, &weights, Executor::SingleThread)?;
    let off = compare(&manifest, &mut reference, &mut written).with_context(|| args.onnx.display().to_string())?;
    let allowed = tolerance(args.weights);
    ensure!(
        off <= allowed,
        "{}: the converted network's scores are off by {off:.4}, more than {allowed}: not written",
        args.onnx.display()
    );

    manifest.golden = Some(rounded(Golden::measure(&manifest, &mut written).with_context(|| named.clone())?));
    if manifest.golden.as_ref().is_some_and(|golden| looks_twice_softmaxed(golden, manifest.output)) {
        tell!(
            "{named}: `output`: is \"logits\", and no score leaves what a second softmax lets through; does the network put out probabilities?"
        );
    }

    let written_text = manifest_text(&text, &manifest);
    // Line by line keeps its author's comments; what cannot be kept so is refused before anything is written.
    let again = Manifest::parse(&named, &written_text);
    ensure!(
        again.as_ref().is_ok_and(|again| *again == manifest),
        "{named}: cannot be completed line by line: write `version = \"..\"` and every table's `[header]` on a plain line of its own, no text over several lines{}",
        again.err().iter().flatten().map(|wrong| format!("; {wrong}")).collect::<String>()
    );
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    write(&args.out.join(&manifest.file), &weights)?;
    write(&args.out.join("manifest.toml"), written_text.as_bytes())?;
    bar.finish_and_clear();
    say!(
        "{}: {} bytes (ONNX {}), scores within {off:.1e} of the ONNX",
        args.out.join(&manifest.file).display(),
        weights.len(),
        onnx.len()
    );
    Ok(())
}

/// Softmax of what is within 0..1: of n labels none is above e / (e + n - 1) then, nor under 1 / (1 + (n - 1) e).
fn looks_twice_softmaxed(golden: &Golden, output: Output) -> bool {
    let others = golden.scores.len() as f64 - 1.0;
    let range = 1.0 / (1.0 + others * E)..=E / (E + others);
    output == Output::Logits && golden.scores.values().all(|score| range.contains(score))
}

/// To the digits that are worth reading: a tenth of what processors differ by.
fn rounded(mut golden: Golden) -> Golden {
    for value in golden.picture.iter_mut().chain(golden.scores.values_mut()) {
        *value = (*value * 1e5).round() / 1e5;
    }
    golden
}

/// The manifest as its author wrote it, comments and all, with `file`, `sha256` and `[golden]` put in and `[measured]` left out.
fn manifest_text(text: &str, manifest: &Manifest) -> String {
    let mut out = String::new();
    let (mut in_table, mut skipping) = (false, false);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[')
            && trimmed.split('#').next().is_some_and(|line| line.trim().ends_with(']') && !line.contains(['"', ',']))
        {
            in_table = true;
            skipping = trimmed.starts_with("[measured") || trimmed.starts_with("[golden");
        }
        let key = trimmed.split('=').next().unwrap_or("").trim();
        if skipping || (!in_table && (key == "file" || key == "sha256")) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if !in_table && key == "version" {
            out.push_str(&format!("file = \"{}\"\nsha256 = \"{}\"\n", manifest.file, manifest.sha256));
        }
    }
    if let Some(golden) = &manifest.golden {
        // Nothing but text and numbers: it is always TOML.
        let table = toml::to_string(&BTreeMap::from([("golden", golden)])).unwrap_or_default();
        out = format!(
            "{}\n\n# What these weights make of a known sound: whoever loads them compares.\n{table}",
            out.trim_end()
        );
    }
    out
}

/// The network as `.nnef.tgz`, the same bytes for the same input.
fn nnef(onnx: &[u8], manifest: &Manifest, weights: Weights) -> anyhow::Result<Vec<u8>> {
    let model = typed_from_onnx(onnx, Some(manifest.input_shape()))?.into_decluttered()?;
    let plain = tract_nnef::nnef().write_to_tar_with_config(&model, Vec::new(), false, true)?;
    let mut packed = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best()));
    let mut archive = tar::Archive::new(&plain[..]);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if path.extension().is_some_and(|ending| ending == "dat") {
            let tensor = read_tensor(&bytes[..])?;
            let (stored, scale) = stored(&tensor, weights)?;
            if let Some(scale) = scale {
                append(
                    &mut packed,
                    &path.with_extension(format!("{}.dat", &SCALE_SUFFIX[1..])),
                    &tensor_bytes(&scale)?,
                )?;
            }
            append(&mut packed, &path, &tensor_bytes(&stored)?)?;
        } else {
            append(&mut packed, &path, &bytes)?;
        }
    }
    Ok(packed.into_inner()?.finish()?)
}

fn append(tar: &mut tar::Builder<impl Write>, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

fn tensor_bytes(tensor: &Tensor) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_tensor(&mut bytes, tensor)?;
    Ok(bytes)
}

/// A tensor as it is stored, and its scales where it is stored in 8 bits.
fn stored(tensor: &Tensor, weights: Weights) -> anyhow::Result<(Tensor, Option<Tensor>)> {
    if weights == Weights::F32 || tensor.datum_type() != DatumType::F32 || tensor.len() < SMALL {
        return Ok((tensor.clone(), None));
    }
    if weights == Weights::F16 {
        return Ok((tensor.cast_to_dt(DatumType::F16)?.into_owned(), None));
    }
    let values = tensor.try_as_plain_ram()?;
    let values = values.as_slice::<f32>()?;
    // A product's matrix may stand behind axes of length 1: its rows are the output channels all the same.
    let leading = tensor.shape().iter().take_while(|extent| **extent == 1).count();
    let rows = tensor.shape().get(leading).copied().unwrap_or(1);
    let mut scales = Vec::with_capacity(rows);
    let mut codes = Vec::with_capacity(values.len());
    for row in values.chunks_exact(values.len() / rows) {
        let scale = best_scale(row);
        scales.push(scale);
        codes.extend(row.iter().map(|x| code(*x, scale)));
    }
    Ok((Tensor::from_shape(tensor.shape(), &codes)?, Some(Tensor::from_shape(&[rows], &scales)?)))
}

fn code(value: f32, scale: f32) -> i8 {
    (value / scale).round().clamp(-127.0, 127.0) as i8
}

/// The scale of least squared error among some below the one that clips nothing: a rare large weight may be clipped where
/// that makes all others finer.
fn best_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0f32, |most, x| most.max(x.abs())).max(1e-12);
    let error = |scale: f32| row.iter().map(|x| f64::from(x - f32::from(code(*x, scale)) * scale).powi(2)).sum::<f64>();
    (0..=10)
        .map(|step| largest / 127.0 * (1.0 - 0.04 * step as f32))
        .min_by(|a, b| error(*a).total_cmp(&error(*b)))
        .unwrap_or(largest / 127.0)
}

/// Largest difference of a label's score over a few seeded pictures.
fn compare(manifest: &Manifest, reference: &mut Model, written: &mut Model) -> anyhow::Result<f64> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
    let mut worst = 0f64;
    for _ in 0..4 {
        // Random sound, not random pictures: quantisation is to be judged where the network lives.
        let config = &manifest.front_end;
        let gain: f32 = rng.random_range(0.01..0.5);
        let tone: f32 = rng.random_range(0.01..0.4);
        let sound: Vec<f32> = (0..config.window_samples())
            .map(|i| gain * rng.random_range(-1.0..1.0f32) + 0.3 * (i as f32 * tone).sin())
            .collect();
        let mut front_end = detector::front_end::FrontEnd::new(config);
        let picture = front_end.picture(&sound);
        let expected = reference.run(picture)?.to_vec();
        for (a, b) in written.run(picture)?.iter().zip(&expected) {
            worst = worst.max(f64::from((a - b).abs()));
        }
    }
    Ok(worst)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(|| path.display().to_string())?;
    // A temporary file is private; a model is not a secret, and the service runs as another user.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).with_context(|| path.display().to_string())?;
    Ok(())
}
