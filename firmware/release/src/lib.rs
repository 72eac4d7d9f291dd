//! A release of screamd: what is started, how it travels, and how the next one takes its place.
//!
//! *Release*: binary, models and boards of one version in one folder, with a manifest that names every file.
//! *Bundle*: a release in one signed file. *Package*: what dpkg installed; it is release 0, the one that is always there.
//! *Trial*: a release that runs and has not proved itself yet; *good* is one that has.
//!
//! ```text
//! host-tools: files -> pack -> sign -> FILE
//! device:     FILE -> copy -> signature -> manifest -> fit -> unpack -> rename -> `current` -> trial -> `good`
//! ```
//! Read in this order: [`manifest`], [`bundle`], [`keys`], [`unpack`], [`store`], [`trial`].
//! Architecture invariants: nothing is parsed before its signature has been checked; nothing is started here and no
//! service is touched; after a power cut at any moment one whole release is `current` (tests/crash.rs).

pub mod bundle;
pub mod keys;
pub mod limits;
pub mod manifest;
mod place;
mod starts;
pub mod store;
pub mod trial;
pub mod unpack;

use std::io;
use std::path::Path;

pub use place::read_small as read_foreign;

/// Why a bundle, a key or a release is refused. The text names the file, then the cause.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {cause}")]
pub struct Refused {
    /// As the user named it.
    pub file: String,
    /// What is wrong with it.
    pub cause: Cause,
}

impl Refused {
    /// With the name of a path.
    pub fn at(path: &Path, cause: impl Into<Cause>) -> Self {
        Self { file: path.display().to_string(), cause: cause.into() }
    }
}

/// See [`Refused`].
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The system refused something.
    #[error("{step}: {source}")]
    Io {
        /// What was tried, as a verb with its object.
        step: String,
        /// The system's words.
        source: io::Error,
    },
    /// Not a regular file: a link, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Over a bound.
    #[error("has {bytes} bytes, at most {max} are read")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// Another kind of file.
    #[error("is no screamd bundle: {0}")]
    NotABundle(&'static str),
    /// No key on this device.
    #[error("no update key is trusted: put the .pub file of `host-tools bundle keygen` there")]
    NoKeys,
    /// A key file that is none.
    #[error("is no minisign public key: {0}")]
    BadKey(String),
    /// Signed by somebody else.
    #[error("signed with key {signed_with}, which is not trusted (trusted: {trusted})")]
    UnknownKey {
        /// The key's id in hexadecimal.
        signed_with: String,
        /// Ids that are.
        trusted: String,
    },
    /// Changed after signing.
    #[error("the signature does not fit: the file is damaged, cut off or forged")]
    BadSignature,
    /// A signed bundle whose manifest does not make sense.
    #[error("manifest.toml: {0}")]
    Manifest(String),
    /// A signed bundle with an entry that is not allowed.
    #[error("entry `{path}`: {what}")]
    Entry {
        /// As it stands in the archive.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// For another machine.
    #[error("is for {bundle}, this machine is {machine}")]
    Machine {
        /// What it says.
        bundle: String,
        /// What this is.
        machine: String,
    },
    /// For other boards.
    #[error("is for board {bundle}, this device is `{device}`")]
    Board {
        /// What it says.
        bundle: String,
        /// What this is.
        device: String,
    },
    /// Older than what runs.
    #[error("version {bundle} is older than {installed}, which runs (--allow-downgrade installs it all the same)")]
    Downgrade {
        /// What it says.
        bundle: String,
        /// What runs.
        installed: String,
    },
    /// Runs already.
    #[error("release {0} runs already")]
    Installed(String),
    /// Not enough room.
    #[error("needs {needed} bytes and {free} are free in {dir}; nothing was changed")]
    NoSpace {
        /// With the reserve.
        needed: u64,
        /// For this user.
        free: u64,
        /// Where.
        dir: String,
    },
    /// Another update is being applied.
    #[error("another update is being applied")]
    Busy,
    /// Nowhere to go back to.
    #[error("the package's release runs, there is none to go back to")]
    NothingBefore,
}

impl Cause {
    /// An error of the system with what was tried.
    pub fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }
}
