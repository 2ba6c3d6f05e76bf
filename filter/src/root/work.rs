//! Prompts, worked on in slices.

use std::time::Duration;

use super::{Answer, METRICS, NEXT_SLICE, Root};
use crate::host::Host;
use crate::metrics;
use crate::reason::Fallback;
use crate::task::{Prepared, Task, Tools};
use crate::upload::Upload;

impl Root {
    /// A new request's part of the memory.
    pub fn share(&self) -> crate::memory::Share {
        self.memory.share()
    }

    /// Reads what is new of a body that has not ended.
    pub fn read_ahead(&mut self, host: &dyn Host, upload: &mut Upload) -> Result<(), Fallback> {
        if !upload.may_read_ahead() {
            return Ok(());
        }
        if upload.is_brief() {
            return upload.read_on(host, &mut self.cache, Duration::ZERO);
        }
        let began = host.now();
        let read = upload.read_on(host, &mut self.cache, began.saturating_add(self.config.slice));
        self.note_callback(host, began);
        read
    }

    /// Begins with the prompt of a request whose body ended at `since`, in this
    /// callback; the indexer is asked at once where that is enough, else some ticks
    /// later. An error is the answer.
    pub fn begin(
        &mut self,
        host: &dyn Host,
        context: u32,
        since: Duration,
        upload: Box<Upload>,
    ) -> Result<(), Fallback> {
        // What held when the headers came may hold no longer.
        self.refusal(host).map_or(Ok(()), Err)?;
        self.tasks.admit(&upload, &self.config)?;
        self.metrics.count_later(metrics::BYTES, "", upload.size as u64);
        let mut task = Task::new(context, since, upload);
        let worked = self.work(host, &mut task, since);
        let asked = match worked {
            Some(Ok(prepared)) => self.ask_for(host, &task, prepared),
            Some(Err(fallback)) => Err(fallback),
            None => {
                self.tasks.put(task);
                self.hasten_tick(host, NEXT_SLICE);
                Ok(())
            }
        };
        self.note_callback(host, since);
        asked
    }

    /// One slice for those that wait for one.
    pub(super) fn work_on(&mut self, host: &dyn Host) -> Vec<Answer> {
        let mut failed = Vec::new();
        if self.tasks.is_empty() {
            return failed;
        }
        let began = host.now();
        while let Some(mut task) = self.tasks.take() {
            // A request that Envoy knows no longer needs no answer.
            if host.act_for(task.context).is_ok() {
                match self.work(host, &mut task, began) {
                    None => self.tasks.put(task),
                    Some(worked) => {
                        let asked = worked.and_then(|done| self.ask_for(host, &task, done));
                        failed.extend(asked.err().map(|why| (task.context, Err(why))));
                    }
                }
            }
            // Less than half a slice is enough for the next one only where it is short.
            if host.now().saturating_sub(began).saturating_mul(2) >= self.config.slice {
                break;
            }
        }
        self.note_callback(host, began);
        failed
    }

    fn work(
        &mut self,
        host: &dyn Host,
        task: &mut Task,
        began: Duration,
    ) -> Option<Result<Prepared, Fallback>> {
        let mut tools = Tools {
            host,
            config: &self.config,
            models: &self.models,
            cache: &mut self.cache,
            pace: &mut self.pace,
        };
        task.work(&mut tools, began)
    }

    fn ask_for(
        &mut self,
        host: &dyn Host,
        task: &Task,
        prepared: Prepared,
    ) -> Result<(), Fallback> {
        let Prepared { asking, tokens, reused_tokens, cut } = prepared;
        let now = host.now();
        self.metrics.time_later(host, metrics::PROMPT, now.saturating_sub(task.since));
        self.metrics.count_later(metrics::TOKENS, "", tokens);
        self.metrics.count_later(metrics::REUSED_TOKENS, "", reused_tokens);
        if let Some(cut) = cut {
            self.metrics.count_later(metrics::CUTS, cut, 1);
        }
        self.route(host, task.context, now, &asking)
    }

    /// The request is gone.
    pub fn forget(&mut self, host: &dyn Host, context: u32) {
        self.tasks.forget(context);
        self.take_back(host, context);
    }

    /// Takes down that the thread was ours since `began`.
    pub(super) fn note_callback(&mut self, host: &dyn Host, began: Duration) {
        let now = host.now();
        self.patience.worked(began, now);
        self.metrics.time_later(host, metrics::CALLBACK, now.saturating_sub(began));
        self.hasten_tick(host, METRICS);
    }
}
