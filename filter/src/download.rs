//! One file of the indexer's, fetched in ranges and checked against its name.
//!
//! In ranges, because Envoy hands an answer over in one piece and on a worker's
//! own thread: 256 KB are copied and hashed in some 1 ms, a whole tokenizer table in 40,
//! and all that time the worker's traffic would wait.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use warmpath_protocol::{Resource, TABLES_PATH};

use crate::host::Reply;

/// Bytes in one range.
const RANGE: u64 = 256 << 10;
/// No tokenizer is larger; a manifest that says so is wrong.
const MAX_BYTES: u64 = 256 << 20;

/// Why a file is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The indexer did not deliver; worth another try.
    #[error("the indexer answered {}", .0.map_or("nothing".to_owned(), |status| status.to_string()))]
    Answer(Option<u16>),
    /// What came is not what was named; another try would bring the same.
    #[error("{0}")]
    Content(String),
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    resource: Resource,
    bytes: Vec<u8>,
    digest: Sha256,
}

impl Download {
    /// Makes room for a file.
    pub fn new(resource: Resource) -> Result<Self, DownloadError> {
        let refused = || DownloadError::Content(format!("{} bytes is no size", resource.bytes));
        let size = usize::try_from(resource.bytes).map_err(|_| refused())?;
        let mut bytes = Vec::new();
        let is_sane = (1..=MAX_BYTES).contains(&resource.bytes);
        if !is_sane || bytes.try_reserve_exact(size).is_err() {
            return Err(refused());
        }
        Ok(Self { resource, bytes, digest: Sha256::new() })
    }

    /// Where the file is.
    pub fn path(&self) -> String {
        format!("{TABLES_PATH}/{}", self.resource.sha256)
    }

    /// The `range` to ask for next; none where all is there.
    pub fn next_range(&self) -> Option<String> {
        let here = self.bytes.len() as u64;
        let last = self.resource.bytes.min(here.saturating_add(RANGE)).checked_sub(1)?;
        (here <= last).then(|| format!("bytes={here}-{last}"))
    }

    /// Takes a range's answer. A server that knows no ranges may send all at once.
    pub fn accept(&mut self, reply: &Reply) -> Result<(), DownloadError> {
        let missing = self.resource.bytes.saturating_sub(self.bytes.len() as u64);
        let size = reply.body.len() as u64;
        match reply.status {
            Some(206) if (1..=missing).contains(&size) => {}
            Some(200) if size == self.resource.bytes && size == missing => {}
            Some(200 | 206) => {
                return Err(DownloadError::Content(format!(
                    "{size} bytes came where {missing} were missing"
                )));
            }
            status => return Err(DownloadError::Answer(status)),
        }
        self.digest.update(&reply.body);
        self.bytes.extend_from_slice(&reply.body);
        Ok(())
    }

    /// The file, once all is there.
    pub fn finish(self) -> Result<Vec<u8>, DownloadError> {
        let mut hex = String::new();
        for byte in self.digest.finalize() {
            // Writing to a string can not fail.
            let _written = write!(hex, "{byte:02x}");
        }
        if hex != self.resource.sha256 {
            return Err(DownloadError::Content(format!("its SHA-256 is {hex}")));
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(bytes: &[u8]) -> Resource {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Resource { sha256, bytes: bytes.len() as u64, format: String::new() }
    }

    fn reply(status: u16, body: &[u8]) -> Reply {
        Reply { status: Some(status), body: body.to_vec() }
    }

    #[test]
    fn ranges_add_up_to_the_file() {
        let file: Vec<u8> = (0..(RANGE as usize * 2 + 5)).map(|i| i as u8).collect();
        let mut download = Download::new(resource(&file)).unwrap();
        let mut asked = Vec::new();
        for part in file.chunks(RANGE as usize) {
            asked.push(download.next_range().unwrap());
            download.accept(&reply(206, part)).unwrap();
        }
        assert_eq!(asked, ["bytes=0-262143", "bytes=262144-524287", "bytes=524288-524292"]);
        assert_eq!(download.next_range(), None);
        assert_eq!(download.finish(), Ok(file));
    }

    #[test]
    fn a_server_without_ranges_will_do() {
        let mut download = Download::new(resource(b"abc")).unwrap();
        download.accept(&reply(200, b"abc")).unwrap();
        assert_eq!(download.finish(), Ok(b"abc".to_vec()));
    }

    #[test]
    fn other_bytes_than_named_are_refused() {
        let mut download = Download::new(resource(b"abc")).unwrap();
        download.accept(&reply(206, b"abd")).unwrap();
        assert!(matches!(download.finish(), Err(DownloadError::Content(_))));
    }

    #[test]
    fn more_or_fewer_bytes_than_named_are_refused() {
        let mut download = Download::new(resource(b"abc")).unwrap();
        for (status, body) in [(206, b"abcd".as_slice()), (206, b""), (200, b"ab")] {
            let error = download.accept(&reply(status, body));
            assert!(matches!(error, Err(DownloadError::Content(_))), "{status} {body:?}");
        }
        assert_eq!(download.next_range().as_deref(), Some("bytes=0-2"));
    }

    #[test]
    fn an_error_answer_leaves_what_came_before() {
        let mut download = Download::new(resource(b"abc")).unwrap();
        download.accept(&reply(206, b"ab")).unwrap();
        assert_eq!(download.accept(&reply(503, b"x")), Err(DownloadError::Answer(Some(503))));
        assert_eq!(download.next_range().as_deref(), Some("bytes=2-2"));
    }

    #[test]
    fn a_size_beyond_reason_is_refused_before_any_memory_is_taken() {
        for bytes in [0, u64::MAX] {
            let resource = Resource { bytes, ..Resource::default() };
            assert!(Download::new(resource).is_err(), "{bytes}");
        }
    }
}
