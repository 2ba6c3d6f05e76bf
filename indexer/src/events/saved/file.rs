/*!
The file of a snapshot. All numbers are little-endian.

```text
"WPIX", version u32 = 1
stream: length u32, not 0; entry, that many bytes of JSON; length u64; blocks, that many
        bytes, a snapshot of `warmpath-radix` of the one holder; XXH3-64 of entry and blocks
end:    0 u32, streams u32
```

A reader checks the frame at once and each stream's checksum when its engine has confirmed
it. A writer writes beside the file and renames: whoever reads has one snapshot whole.
*/

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use warmpath_radix::{Holder, Index};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

const MAGIC: &[u8; 4] = b"WPIX";
const VERSION: u32 = 1;
/// The longest entry: some numbers and a worker's name.
const ENTRY: u32 = 1 << 20;

/// Where a stream was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::events) struct Entry {
    /// The worker's id in the configuration.
    pub(in crate::events) worker: String,
    pub(in crate::events) rank: u32,
    /// Of the last batch applied.
    pub(in crate::events) seq: u64,
    pub(in crate::events) digest: u64,
    /// The newest time among the engine's batches.
    pub(in crate::events) timestamp: Option<f64>,
    /// Digest of batch 0.
    pub(in crate::events) first: Option<u64>,
    pub(in crate::events) block_size: Option<u32>,
    /// Rank, cache group, whether it is main attention.
    pub(in crate::events) groups: Vec<(u32, u32, bool)>,
}

/// One stream of a file that is open.
#[derive(Debug)]
pub(in crate::events) struct Saved {
    pub(in crate::events) entry: Entry,
    /// Of the entry's bytes: a number read from them may be written otherwise.
    entry_digest: u64,
    /// Open, so that it stays when another takes its name.
    file: Arc<File>,
    /// Of the blocks.
    start: u64,
    length: u64,
    checksum: u64,
}

impl Saved {
    pub(in crate::events) fn is_of(&self, worker: &str, rank: u32) -> bool {
        (self.entry.worker.as_str(), self.entry.rank) == (worker, rank)
    }

    /// Stores the blocks as those of `holder`, which has nothing; how many.
    pub(super) fn restore(&self, index: &Index, holder: Holder) -> io::Result<usize> {
        let blocks = self.blocks()?;
        index.clear(holder);
        let restored = index.restore(&blocks[..], |_| Some(holder)).map_err(io::Error::other)?;
        if restored.skipped > 0 {
            // Somebody predicted blocks of it meanwhile.
            return Err(io::Error::other("the worker has other blocks already"));
        }
        Ok(restored.blocks)
    }

    fn blocks(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut blocks = vec![0; length];
        self.file.read_exact_at(&mut blocks, self.start)?;
        match checksum(self.entry_digest, &blocks) == self.checksum {
            true => Ok(blocks),
            false => Err(wrong("a stream has another checksum than its bytes")),
        }
    }
}

fn checksum(entry_digest: u64, blocks: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&entry_digest.to_le_bytes());
    hasher.update(blocks);
    hasher.digest()
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The streams of a file; none where there is no file.
pub(super) fn read(path: &Path) -> io::Result<Vec<Saved>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    let shared = Arc::new(file.try_clone()?);
    if take::<4>(&mut file)? != *MAGIC {
        return Err(wrong("not a snapshot of an index"));
    }
    let version = u32::from_le_bytes(take(&mut file)?);
    if version != VERSION {
        return Err(wrong(&format!("of version {version}, which this release does not read")));
    }
    let mut streams = Vec::new();
    loop {
        let length = u32::from_le_bytes(take(&mut file)?);
        if length == 0 {
            let count = u32::from_le_bytes(take(&mut file)?);
            let whole = count as usize == streams.len() && file.stream_position()? == size;
            return if whole { Ok(streams) } else { Err(wrong("its end is not its own")) };
        }
        if length > ENTRY {
            return Err(wrong("an entry is too long"));
        }
        let mut entry = vec![0; length as usize];
        file.read_exact(&mut entry)?;
        let entry_digest = xxh3_64(&entry);
        let entry = serde_json::from_slice(&entry)?;
        let length = u64::from_le_bytes(take(&mut file)?);
        let start = file.stream_position()?;
        let end = start.checked_add(length).filter(|&end| end <= size);
        file.seek(SeekFrom::Start(end.ok_or_else(|| wrong("it ends inside a stream"))?))?;
        let checksum = u64::from_le_bytes(take(&mut file)?);
        let file = Arc::clone(&shared);
        streams.push(Saved { entry, entry_digest, file, start, length, checksum });
    }
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A file that is being written, beside the one that it will replace.
pub(super) struct Writer {
    path: PathBuf,
    beside: PathBuf,
    out: BufWriter<File>,
    streams: u32,
}

impl Writer {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { path: path.to_owned(), beside, out, streams: 0 })
    }

    /// Adds what a holder has.
    pub(super) fn add(self, entry: &Entry, index: &Index, holder: Holder) -> io::Result<Self> {
        let mut blocks = Vec::new();
        index.snapshot_of(&[holder], &mut blocks)?;
        self.stream(entry, &blocks)
    }

    /// Adds what an earlier file has of a stream.
    pub(super) fn copy(self, saved: &Saved) -> io::Result<Self> {
        match saved.blocks() {
            Ok(blocks) => self.stream(&saved.entry, &blocks),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(self),
            Err(error) => Err(error),
        }
    }

    fn stream(mut self, entry: &Entry, blocks: &[u8]) -> io::Result<Self> {
        let entry = serde_json::to_vec(entry)?;
        let length = u32::try_from(entry.len()).ok().filter(|&length| length <= ENTRY);
        let length = length.ok_or_else(|| wrong("a worker's name is too long to be saved"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&entry)?;
        self.out.write_all(&(blocks.len() as u64).to_le_bytes())?;
        self.out.write_all(blocks)?;
        self.out.write_all(&checksum(xxh3_64(&entry), blocks).to_le_bytes())?;
        self.streams += 1;
        Ok(self)
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&0_u32.to_le_bytes())?;
        self.out.write_all(&self.streams.to_le_bytes())?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&self.beside, &self.path)
    }
}
