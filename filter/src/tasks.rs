//! The prompts that a VM works on, a slice at a time.
//!
//! Every request gets its first slice at once, in the callback that ends its body, so
//! that one that fits into a slice never waits behind a long one. Those that do not fit
//! take turns, in the order that they came: whoever has the least left would be done
//! sooner by going first, but a stream of shorter ones would then starve the long ones.
//!
//! Between two slices Envoy has its event loop back: the next is a tick of the VM's
//! timer, and the loop looks at all sockets before it. ARCHITECTURE.md tells what that
//! costs and what else was considered.

use std::collections::VecDeque;

use crate::config::Config;
use crate::reason::Fallback;
use crate::task::Task;
use crate::upload::Upload;

/// So many may wait for their next slice.
const MAX_TASKS: usize = 256;
/// They hold this many bytes of bodies at most, or one body.
const MAX_BYTES: usize = 128 << 20;

/// The tasks that did not fit into their first slice.
#[derive(Debug, Default)]
pub struct Tasks {
    queue: VecDeque<Task>,
}

impl Tasks {
    /// Whether there is room for another, should it take more than one slice.
    pub fn admit(&self, upload: &Upload, config: &Config) -> Result<(), Fallback> {
        let most = MAX_BYTES.max(config.max_body_bytes);
        if self.queue.len() >= MAX_TASKS || upload.held_when_read() > most {
            return Err(Fallback::Busy);
        }
        Ok(())
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next in turn.
    pub fn take(&mut self) -> Option<Task> {
        self.queue.pop_front()
    }

    /// Puts one behind all others.
    pub fn put(&mut self, task: Task) {
        self.queue.push_back(task);
    }

    /// Forgets the one of a request that is gone.
    pub fn forget(&mut self, context: u32) {
        self.queue.retain(|task| task.context != context);
    }

    /// The requests of all, which are forgotten.
    pub fn drain(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.queue).into_iter().map(|task| task.context)
    }
}
