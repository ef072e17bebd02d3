//! Reads the model file that the user names.
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use paramedic_core::decide::{LoadOther, MAX_BYTES, Model, ModelError};

/// Loads models that are not tree ensembles.
#[cfg(feature = "tract")]
const OTHERS: LoadOther = paramedic_tract::load;
#[cfg(not(feature = "tract"))]
const OTHERS: LoadOther = paramedic_core::decide::only_forests;

/// Why a model file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModelFileError {
    /// The file cannot be read.
    #[error("cannot read the model file {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It does not contain a model that fits this agent.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Loads a model file of at most 16 MiB.
///
/// # Errors
/// If it cannot be read, or does not contain a model that fits this agent.
pub(super) fn load(path: &Path) -> Result<Model, ModelFileError> {
    let bytes =
        read(path).map_err(|source| ModelFileError::Io { path: path.to_owned(), source })?;
    Ok(Model::from_bytes(&bytes, OTHERS)?)
}

/// Reads one byte more than the maximum, which detects a file that is too large whatever its
/// reported length. Opens regular files only: opening a pipe waits for a writer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oversized_file_is_refused_without_reading_it_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge.onnx");
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, ModelFileError::Model(ModelError::TooLarge)), "{error}");
    }

    #[test]
    fn a_pipe_and_a_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = load(&pipe).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(load(directory.path()).is_err());
    }
}
