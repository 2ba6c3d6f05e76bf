/*!
A snapshot: the whole index as bytes, written while it is in use.

A section for each tier of each holder, each as of one moment and with a checksum of
its own. Holders tell of the prefixes that they share each for itself: a section
stands alone, a damaged one costs no other's reading, and restoring is nothing but
storing. All numbers are little-endian.

```text
"WPRX", version u32 = 1
section: 1 u8, worker u32, rank u32, tier u8, bytes u64, paths…, XXH3-64 of the
         section so far u64
path:    the number of the block above it in this section, from 1, 0 at the start
         of a prompt u32; seed u64; blocks u32; blocks…
block:   local hash u64; names u8, 0 where the holder has it not; names…
name:    engine hash u64, copies u32; the highest bit of the copies says that a
         seed u64 of its own follows
end:     0 u8, sections u32, XXH3-64 of the sections' checksums u64
```

Reading believes nothing: memory is taken as bytes arrive, a section is applied only
after its checksum and all its numbers were found right.
*/

use std::io::{self, Read, Write};

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::dump::{Layout, Path};
use crate::index::Index;
use crate::lane::Named;
use crate::{Block, EngineHash, Holder, Tier, WorkerId};

const MAGIC: &[u8; 4] = b"WPRX";
const VERSION: u32 = 1;
const SECTION: u8 = 1;
const END: u8 = 0;
/// Of a copies field: a seed follows.
const OWN_SEED: u32 = 1 << 31;

/// Why a snapshot could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes could not be read, or end too early.
    #[error("the snapshot could not be read: {0}")]
    Io(#[from] io::Error),
    /// Some other file.
    #[error("not a snapshot of an index")]
    Magic,
    /// Written by a later release.
    #[error("the snapshot is of version {0}, which this release does not read")]
    Version(u32),
    /// Damaged.
    #[error("section {0} of the snapshot has another checksum than its bytes")]
    Checksum(u32),
    /// Well preserved and yet wrong.
    #[error("section {section} of the snapshot: {what}")]
    Malformed {
        /// Its number, from 0.
        section: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What was read from a snapshot.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Restored {
    /// Sections applied.
    pub sections: usize,
    /// Sections of holders that the caller does not want or that had something already:
    /// what events told is newer.
    pub skipped: usize,
    /// Blocks stored.
    pub blocks: usize,
}

struct ReadBlock {
    local: u64,
    names: Vec<Named>,
}

struct ReadPath {
    above: u32,
    seed: u64,
    blocks: Vec<ReadBlock>,
}

impl Index {
    /// Writes everything that events told of, without predictions and what waits.
    pub fn snapshot(&self, out: impl Write) -> io::Result<()> {
        self.snapshot_of(&self.holders(), out)
    }

    /// The same of some holders only.
    pub fn snapshot_of(&self, holders: &[Holder], mut out: impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let (mut sections, mut checksums) = (0_u32, Vec::new());
        for &holder in holders {
            for (tier, layout) in Tier::ALL.into_iter().zip(self.layouts(holder)) {
                if layout.paths.is_empty() {
                    continue;
                }
                let section = section(holder, tier, &layout);
                let checksum = xxh3_64(&section).to_le_bytes();
                out.write_all(&section)?;
                out.write_all(&checksum)?;
                checksums.extend(checksum);
                sections += 1;
            }
        }
        out.write_all(&[END])?;
        out.write_all(&sections.to_le_bytes())?;
        out.write_all(&xxh3_64(&checksums).to_le_bytes())?;
        out.flush()
    }

    /// Reads a snapshot into this index, whose ceiling holds as for events.
    ///
    /// `whose` says which holder a written one is today, if any. An error leaves what
    /// the sections before it brought.
    pub fn restore(
        &self,
        mut from: impl Read,
        whose: impl Fn(Holder) -> Option<Holder>,
    ) -> Result<Restored, SnapshotError> {
        if take::<4>(&mut from)? != *MAGIC {
            return Err(SnapshotError::Magic);
        }
        let version = u32::from_le_bytes(take(&mut from)?);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (mut restored, mut checksums) = (Restored::default(), Vec::new());
        let mut ours = HashSet::new();
        for section in 0.. {
            let tag = take::<1>(&mut from)?;
            if tag[0] == END {
                let count = u32::from_le_bytes(take(&mut from)?);
                let checksum = u64::from_le_bytes(take(&mut from)?);
                if (count, checksum) != (section, xxh3_64(&checksums)) {
                    return Err(SnapshotError::Checksum(section));
                }
                break;
            }
            let malformed = |what| SnapshotError::Malformed { section, what };
            if tag[0] != SECTION {
                return Err(malformed("it is neither a section nor the end"));
            }
            let head = take::<17>(&mut from)?;
            let mut bytes = [&tag[..], &head].concat();
            let mut fields = Fields(&head);
            let written = Holder {
                worker: WorkerId(fields.u32().unwrap_or_default()),
                rank: fields.u32().unwrap_or_default(),
            };
            let tier = fields.u8().and_then(|tier| Tier::ALL.get(usize::from(tier)).copied());
            let tier = tier.ok_or_else(|| malformed("no such tier"))?;
            let length = fields.u64().unwrap_or_default();
            // Grows as bytes come: a length alone takes no memory.
            let read = from.by_ref().take(length).read_to_end(&mut bytes)?;
            if read as u64 != length {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let checksum = take::<8>(&mut from)?;
            if xxh3_64(&bytes) != u64::from_le_bytes(checksum) {
                return Err(SnapshotError::Checksum(section));
            }
            checksums.extend(checksum);
            let paths = parse(&bytes[1 + head.len()..]).map_err(malformed)?;
            let Some(holder) = whose(written) else {
                restored.skipped += 1;
                continue;
            };
            if !ours.contains(&holder) && self.holders.read().contains_key(&holder) {
                restored.skipped += 1;
                continue;
            }
            ours.insert(holder);
            restored.sections += 1;
            restored.blocks += self.lay(holder, tier, &paths);
        }
        Ok(restored)
    }

    /// Stores the paths of a section; how many blocks that were.
    fn lay(&self, holder: Holder, tier: Tier, paths: &[ReadPath]) -> usize {
        let blocks = || paths.iter().flat_map(|path| &path.blocks);
        let names: HashSet<EngineHash> =
            blocks().flat_map(|block| block.names.iter().map(|name| name.engine)).collect();
        // What lies between goes by names that nobody has, until all is laid.
        let mut unused = (0..).map(EngineHash).filter(|name| !names.contains(name));
        let (mut between, mut all) = (Vec::new(), Vec::with_capacity(names.len()));
        for path in paths {
            let mut parent = (path.above as usize).checked_sub(1).map(|above| all[above]);
            let own_seed = |block: &ReadBlock| block.names.first().and_then(|name| name.seed);
            // One store each, but for second names and seeds of their own.
            let goes_on = |one: &ReadBlock, next: &ReadBlock| {
                next.names.len() < 2 && own_seed(one) == own_seed(next)
            };
            for stretch in path.blocks.chunk_by(goes_on) {
                let chain: Vec<Block> = stretch
                    .iter()
                    .map(|block| {
                        let engine = block.names.first().map(|name| name.engine);
                        let engine = engine.or_else(|| {
                            between.extend(unused.next());
                            between.last().copied()
                        });
                        Block { local: block.local, engine: engine.unwrap_or_default() }
                    })
                    .collect();
                let seed = own_seed(&stretch[0]).unwrap_or(path.seed);
                let _ = self.store(holder, tier, parent, seed, &chain);
                for (block, laid) in stretch.iter().zip(&chain) {
                    for name in block.names.iter().skip(1) {
                        let again = [Block { engine: name.engine, ..*laid }];
                        let seed = name.seed.unwrap_or(path.seed);
                        let _ = self.store(holder, tier, parent, seed, &again);
                    }
                    parent = Some(laid.engine);
                }
                all.extend(chain.iter().map(|block| block.engine));
            }
        }
        let copies: HashMap<EngineHash, u32> = blocks()
            .flat_map(|block| &block.names)
            .filter(|name| name.copies > 1)
            .map(|name| (name.engine, name.copies - 1))
            .collect();
        self.with(holder, |held| held.copy(tier, &copies));
        // Which keeps it below the ceiling too.
        self.remove(holder, tier, &between);
        blocks().filter(|block| !block.names.is_empty()).count()
    }
}

fn section(holder: Holder, tier: Tier, layout: &Layout) -> Vec<u8> {
    let mut out = vec![SECTION];
    out.extend(holder.worker.0.to_le_bytes());
    out.extend(holder.rank.to_le_bytes());
    out.push(tier as u8);
    let length_at = out.len();
    out.extend(0_u64.to_le_bytes());
    let mut numbers = HashMap::new();
    for path in &layout.paths {
        write_path(path, layout, &mut numbers, &mut out);
    }
    let length = (out.len() - length_at - 8) as u64;
    out[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
    out
}

fn write_path(path: &Path, layout: &Layout, numbers: &mut HashMap<u32, u32>, out: &mut Vec<u8>) {
    let mut above = path.above;
    for pieces in path.pieces.chunk_by(|a, b| a.seed == b.seed) {
        let number = above.and_then(|above| numbers.get(&above).copied()).unwrap_or(0);
        out.extend(number.to_le_bytes());
        out.extend(pieces[0].seed.to_le_bytes());
        out.extend((pieces.len() as u32).to_le_bytes());
        for piece in pieces {
            let number = numbers.len() as u32 + 1;
            numbers.insert(piece.place, number);
            above = Some(piece.place);
            out.extend(piece.local.to_le_bytes());
            let names = layout.names.get(&piece.place).map_or(&[][..], Vec::as_slice);
            let names = &names[..names.len().min(usize::from(u8::MAX))];
            out.push(names.len() as u8);
            for name in names {
                out.extend(name.engine.0.to_le_bytes());
                let flag = if name.seed.is_some() { OWN_SEED } else { 0 };
                out.extend((name.copies.min(OWN_SEED - 1) | flag).to_le_bytes());
                out.extend(name.seed.into_iter().flat_map(u64::to_le_bytes));
            }
        }
    }
}

/// The paths of a section, in which every number was checked.
fn parse(bytes: &[u8]) -> Result<Vec<ReadPath>, &'static str> {
    const SHORT: &str = "it ends inside a path";
    let (mut fields, mut paths, mut known) = (Fields(bytes), Vec::new(), 0_u32);
    while !fields.0.is_empty() {
        let above = fields.u32().ok_or(SHORT)?;
        let seed = fields.u64().ok_or(SHORT)?;
        let count = fields.u32().ok_or(SHORT)?;
        if above > known {
            return Err("a path hangs on a block that comes later");
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            let local = fields.u64().ok_or(SHORT)?;
            let mut names = Vec::new();
            for _ in 0..fields.u8().ok_or(SHORT)? {
                let engine = EngineHash(fields.u64().ok_or(SHORT)?);
                let copies = fields.u32().ok_or(SHORT)?;
                let seed = (copies & OWN_SEED != 0).then(|| fields.u64().ok_or(SHORT));
                let (copies, seed) = (copies & !OWN_SEED, seed.transpose()?);
                if copies == 0 {
                    return Err("a block is held no times");
                }
                names.push(Named { engine, copies, seed });
            }
            blocks.push(ReadBlock { local, names });
        }
        known = known.checked_add(count).ok_or("it has too many blocks")?;
        paths.push(ReadPath { above, seed, blocks });
    }
    Ok(paths)
}

/// Reads numbers off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
