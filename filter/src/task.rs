//! One prompt's way from the end of its body to the question for the indexer, a slice
//! of time after the other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use warmpath_prompt::{Cache, Hashed, Job, Model, Progress};
use warmpath_protocol::RouteRequest;

use crate::asking::Asking;
use crate::config::Config;
use crate::decide::{self, Draft};
use crate::host::Host;
use crate::inbound::Inbound;
use crate::memory::Share;
use crate::models::Models;
use crate::pace::Pace;
use crate::reason::Fallback;
use crate::upload::{BRIEF, Upload};

/// The work for one request.
#[derive(Debug)]
pub struct Task {
    /// The request's context id.
    pub context: u32,
    /// When its body had come to its end.
    pub since: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Something of the body is still to be read.
    Reading(Box<Upload>),
    /// The prompt is being hashed.
    Hashing(Box<Hashing>),
    /// Done, or failed.
    Over,
}

/// A prompt on its way to hashes. Its model is kept, for it may be replaced meanwhile.
struct Hashing {
    inbound: Inbound,
    /// Bytes of the body.
    size: usize,
    bare: RouteRequest,
    job: Job,
    model: Arc<Model>,
    _share: Share,
}

impl fmt::Debug for Hashing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hashing").field("job", &self.job).finish_non_exhaustive()
    }
}

/// What a slice is worked off with.
pub struct Tools<'a> {
    /// The host.
    pub host: &'a dyn Host,
    /// The configuration in force.
    pub config: &'a Config,
    /// The models of the manifest.
    pub models: &'a Models,
    /// What earlier prompts left.
    pub cache: &'a mut Cache,
    /// The VM's speed.
    pub pace: &'a mut Pace,
}

/// A question, and what is worth counting about its prompt.
#[derive(Debug)]
pub struct Prepared {
    /// The question.
    pub asking: Asking,
    /// Tokens of the prompt, or up to its cut.
    pub tokens: u64,
    /// Tokens of it that the cache knew.
    pub reused_tokens: u64,
    /// Why it was hashed only so far.
    pub cut: Option<&'static str>,
}

impl Task {
    /// The work for a request whose body has ended.
    pub fn new(context: u32, since: Duration, upload: Box<Upload>) -> Self {
        Self { context, since, stage: Stage::Reading(upload) }
    }

    /// Works on in the slice that began at `began`; nothing where there is more to do.
    /// The host must act for the request.
    pub fn work(
        &mut self,
        tools: &mut Tools<'_>,
        began: Duration,
    ) -> Option<Result<Prepared, Fallback>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Reading(mut upload) => {
                    let until = began.saturating_add(tools.config.slice);
                    if let Err(fallback) = upload.read_on(tools.host, tools.cache, until) {
                        return Some(Err(fallback));
                    }
                    let size = upload.size;
                    if !upload.is_read() {
                        self.stage = Stage::Reading(upload);
                        return None;
                    }
                    match self.begin(tools, *upload) {
                        Ok(Begun::Hashing(hashing)) => self.stage = Stage::Hashing(hashing),
                        Ok(Begun::Prepared(prepared)) => return Some(Ok(prepared)),
                        Err(fallback) => return Some(Err(fallback)),
                    }
                    // Reading and rendering may have taken the whole slice.
                    if size > BRIEF && tools.host.now() >= until {
                        return None;
                    }
                }
                Stage::Hashing(mut hashing) => match hashing.work(tools, began) {
                    None => {
                        self.stage = Stage::Hashing(hashing);
                        return None;
                    }
                    Some(hashed) => return Some(self.complete(*hashing, hashed)),
                },
                Stage::Over => return Some(Err(Fallback::Unwritable)),
            }
        }
    }

    fn begin(&self, tools: &mut Tools<'_>, upload: Upload) -> Result<Begun, Fallback> {
        let size = upload.size;
        let (inbound, request, share) = upload.finish()?;
        let seconds = self.since.as_secs();
        let prepared = |asking| Prepared { asking, tokens: 0, reused_tokens: 0, cut: None };
        match decide::draft(request, &inbound.overrides, tools, seconds)? {
            Draft::Hash { bare, job, model } => {
                let hashing = Hashing { inbound, size, bare: *bare, job, model, _share: share };
                Ok(Begun::Hashing(Box::new(hashing)))
            }
            Draft::Ask(bare) => Asking::hashes(&inbound, *bare).map(prepared).map(Begun::Prepared),
            Draft::Text => {
                let body = tools.host.request_body(0, size).map_err(|_| Fallback::BodyUnread)?;
                let asking = Asking::text(&inbound, body);
                Ok(Begun::Prepared(prepared(asking)))
            }
        }
    }

    fn complete(
        &self,
        hashing: Hashing,
        hashed: Result<Hashed, Fallback>,
    ) -> Result<Prepared, Fallback> {
        let Hashing { inbound, bare, .. } = hashing;
        let hashed = match hashed {
            Ok(hashed) => hashed,
            // The worker of a pinned request does not depend on its prompt.
            Err(_) if bare.pin.is_some() => Hashed::default(),
            Err(fallback) => return Err(fallback),
        };
        let Hashed { tokens, reused_tokens, cut, .. } = hashed;
        let route = decide::complete(bare, hashed);
        let asking = Asking::hashes(&inbound, route)?;
        Ok(Prepared { asking, tokens, reused_tokens, cut })
    }
}

enum Begun {
    Hashing(Box<Hashing>),
    Prepared(Prepared),
}

impl Hashing {
    /// A slice in several steps, with a look at the clock after each.
    fn work(&mut self, tools: &mut Tools<'_>, began: Duration) -> Option<Result<Hashed, Fallback>> {
        let mut last = if self.size > BRIEF { tools.host.now() } else { began };
        loop {
            let budget = tools.pace.budget();
            match self.job.advance(&self.model, tools.cache, budget) {
                Ok(Progress::Done(hashed)) => return Some(Ok(hashed)),
                Err(refusal) => return Some(Err(Fallback::Refused(refusal.name()))),
                Ok(Progress::More) => {}
            }
            let now = tools.host.now();
            let took = now.saturating_sub(last);
            tools.pace.learn(budget, took);
            if !tools.pace.has_room(now.saturating_sub(began), took) {
                return None;
            }
            last = now;
        }
    }
}
