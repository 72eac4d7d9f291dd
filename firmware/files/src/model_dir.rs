//! A model's folder: `manifest.toml` and the weights beside it, read under their bounds.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use detector::keys::{self, KeyError};
use detector::limits;
use detector::manifest::Manifest;
use detector::model::{Engine, Executor, Model, ModelError};

/// Where models are looked for, in this order.
pub const ROOTS: [&str; 2] = ["", "/usr/share/screamd"];

/// Why a model's folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelDirError {
    /// A file cannot be read.
    #[error("{file}: {cause}")]
    Read {
        /// Its path.
        file: String,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A file is larger than is ever read.
    #[error("{file}: more than {max} bytes are not read")]
    TooLarge {
        /// Its path.
        file: String,
        /// The bound.
        max: u64,
    },
    /// The manifest has mistakes.
    #[error("{}", keys::words(.0))]
    Manifest(Vec<KeyError>),
    /// The weights were refused.
    #[error("{dir}/{cause}")]
    Model {
        /// The folder.
        dir: String,
        /// Why.
        cause: ModelError,
    },
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// Where it cannot be read or is larger.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, ModelDirError> {
    let file = || path.display().to_string();
    let read = |cause| ModelDirError::Read { file: file(), cause };
    // Opening a pipe that nobody writes to would wait for ever; one that a shell hands over (`<(..)`) has its writer.
    let handed_over = path.starts_with("/dev/fd") || path.starts_with("/proc");
    if std::fs::metadata(path).map_err(read)?.file_type().is_fifo() && !handed_over {
        return Err(read(std::io::Error::other("is a pipe, not a file")));
    }
    let opened = File::open(path).map_err(read)?;
    let length = opened.metadata().map_err(read)?.len();
    let mut bytes = Vec::with_capacity(length.min(max) as usize);
    opened.take(max + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > max {
        return Err(ModelDirError::TooLarge { file: file(), max });
    }
    Ok(bytes)
}

/// Reads a text file of configuration.
///
/// # Errors
/// Where it cannot be read, is too large or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, ModelDirError> {
    let bytes = read_bounded(path, limits::TOML_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| ModelDirError::Read {
        file: path.display().to_string(),
        cause: std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8 text"),
    })
}

/// The first place under [`ROOTS`] where `path` stands; `path` itself where it stands nowhere, so that the error names it.
pub fn find(path: &Path) -> PathBuf {
    ROOTS
        .iter()
        .map(|root| Path::new(root).join(path))
        .find(|found| found.exists())
        .unwrap_or_else(|| path.to_path_buf())
}

/// The manifest of the model in `dir`.
///
/// # Errors
/// [`ModelDirError`], naming file, key and cause.
pub fn read_manifest(dir: &Path) -> Result<Manifest, ModelDirError> {
    let path = dir.join("manifest.toml");
    let text = read_text(&path)?;
    Manifest::parse(&path.display().to_string(), &text).map_err(ModelDirError::Manifest)
}

/// Manifest and network of the model in `dir`.
///
/// # Errors
/// [`ModelDirError`]; a refused weights file is named by its file name.
pub fn load(dir: &Path, executor: Executor) -> Result<(Manifest, Model), ModelDirError> {
    let manifest = read_manifest(dir)?;
    let model = load_weights(dir, &manifest, executor)?;
    Ok((manifest, model))
}

/// The network alone, for a manifest that has been read.
///
/// # Errors
/// As [`load`].
pub fn load_weights(dir: &Path, manifest: &Manifest, executor: Executor) -> Result<Model, ModelDirError> {
    load_weights_for(dir, manifest, executor, Engine::Best)
}

/// [`load_weights`] with a say in which engine runs the network.
///
/// # Errors
/// As [`load`].
pub fn load_weights_for(
    dir: &Path,
    manifest: &Manifest,
    executor: Executor,
    engine: Engine,
) -> Result<Model, ModelDirError> {
    let bytes = read_bounded(&dir.join(&manifest.file), limits::MODEL_BYTES_MAX)?;
    Model::load_for(manifest, bytes, executor, engine)
        .map_err(|cause| ModelDirError::Model { dir: dir.display().to_string(), cause })
}
