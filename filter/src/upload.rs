//! A body read while it arrives.
//!
//! Each callback reads what is new in Envoy's buffer and no more, so the JSON is read
//! under the upload and the body is never copied whole. How much one callback reads is
//! bounded too: what it leaves, later ones take up, and what is left when the body has
//! ended is read in slices like the rest of the work.

use std::time::Duration;

use warmpath_prompt::{BodyReader, Cache, Endpoint, Request};

use crate::host::Host;
use crate::inbound::Inbound;
use crate::memory::Share;
use crate::reason::Fallback;

/// Copied out of Envoy's buffer at a time: some 100 µs of reading.
const PIECE: usize = 64 << 10;
/// What takes so short that no clock is looked at for it: each look is a host call.
pub const BRIEF: usize = 16 << 10;
/// While so much is held already, a body is not read before it has ended.
const MAX_AHEAD: usize = 32 << 20;

/// A request whose body is arriving, or has.
#[derive(Debug)]
pub struct Upload {
    /// What the headers said.
    pub inbound: Inbound,
    /// Bytes of the body that Envoy holds.
    pub size: usize,
    reader: BodyReader,
    read: usize,
    share: Share,
}

impl Upload {
    /// Nothing of the body is there yet.
    pub fn new(endpoint: Endpoint, inbound: Inbound, share: Share) -> Self {
        Self { inbound, size: 0, reader: BodyReader::new(endpoint), read: 0, share }
    }

    /// Whether all that Envoy holds was read.
    pub fn is_read(&self) -> bool {
        self.read >= self.size
    }

    /// Whether what is new of it takes no time to speak of.
    pub fn is_brief(&self) -> bool {
        self.size.saturating_sub(self.read) <= BRIEF
    }

    /// Whether there is memory to read more although the body has not ended.
    pub fn may_read_ahead(&self) -> bool {
        self.share.held_by_all() < MAX_AHEAD
    }

    /// Bytes that all requests of the VM hold once all of this one was read.
    pub fn held_when_read(&self) -> usize {
        self.share.held_by_all().saturating_add(self.size.saturating_sub(self.read))
    }

    /// Reads on, piece by piece, until all is read or it is `until`. At least one piece
    /// is read, of a chat only what `cache` does not know. The stream must be the one that the
    /// host acts for.
    pub fn read_on(
        &mut self,
        host: &dyn Host,
        cache: &mut Cache,
        until: Duration,
    ) -> Result<(), Fallback> {
        while !self.is_read() {
            let length = self.size.saturating_sub(self.read).min(PIECE);
            let piece = host.request_body(self.read, length).map_err(|_| Fallback::BodyUnread)?;
            if piece.is_empty() {
                return Err(Fallback::BodyUnread);
            }
            self.read = self.read.saturating_add(piece.len());
            self.share.set(self.read);
            let fed = self.reader.feed(&piece, cache);
            fed.map_err(|refusal| Fallback::Refused(refusal.name()))?;
            if !self.is_read() && host.now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// The request, once all was read, and its part of the memory.
    pub fn finish(self) -> Result<(Inbound, Request, Share), Fallback> {
        let request = self.reader.finish().map_err(|refusal| Fallback::Refused(refusal.name()))?;
        Ok((self.inbound, request, self.share))
    }
}
