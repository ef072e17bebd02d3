//! Approvals for services and containers: a file in the state directory, which only the agent's user may
//! write. It holds the request that was approved last. A pod has an annotation instead.
use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use paramedic_core::target::Request;
use tracing::warn;

/// The file's name.
pub(crate) const APPROVED: &str = "approved";
/// A longer file is no request.
const LONGEST: u64 = 64;

/// The approved request; `None` if there is no file, or if it holds none.
pub(super) fn read(file: &Path) -> Option<Request> {
    let mut text = String::new();
    match File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(file = %file.display(), %error, "cannot read what was approved");
            return None;
        }
        Ok(_) => {}
    }
    let request = Request::read(&text);
    if let Err(error) = request {
        warn!(file = %file.display(), "{error}: `paramedic approve` writes it");
    }
    request.ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_request_is_an_approval() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(APPROVED);
        assert_eq!(read(&file), None, "no file");
        fs::write(&file, "restart-1a2b3c\n").unwrap();
        assert_eq!(read(&file), Request::read("restart-1a2b3c").ok());
        for text in ["", "restart", "restart-1a\nevict-1b\n", &"restart-1".repeat(99)] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), None, "{text:?}");
        }
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&file), None);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(read(&file), None, "a directory");
    }
}
