//! Which callback is whose: context ids and call tokens to roots and streams.
//!
//! Envoy makes every call of the filter in the root's name, so that the answer
//! comes even where the request is gone; the token says for whom it was.

use std::collections::BTreeMap;

use crate::host::{Action, Host, Reply};
use crate::root::{Answer, Root};
use crate::stream::Stream;

/// Everything in one VM. A callback for a context that is not there does nothing.
pub struct Vm<H> {
    host: H,
    roots: BTreeMap<u32, Root>,
    streams: BTreeMap<u32, (u32, Stream)>,
}

impl<H: Host> Vm<H> {
    /// An empty VM.
    pub fn new(host: H) -> Self {
        Self { host, roots: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// `root` is 0 where the new context is a root itself.
    pub fn on_context_create(&mut self, context: u32, root: u32) {
        if root == 0 {
            self.roots.insert(context, Root::default());
        } else {
            self.streams.insert(context, (root, Stream::new(context)));
        }
    }

    /// The configuration of a root is there, or a new one.
    pub fn on_configure(&mut self, context: u32, size: usize) {
        let Some(root) = self.roots.get_mut(&context) else { return };
        for answer in root.on_configure(&self.host, size) {
            self.answer(answer);
        }
    }

    /// A root's timer.
    pub fn on_tick(&mut self, context: u32) {
        let Some(root) = self.roots.get_mut(&context) else { return };
        if root.is_growth_due(&self.host) {
            let streams = self.streams.values_mut().filter(|(root, _)| *root == context);
            for (_, stream) in streams {
                stream.tell_growth(&self.host, root);
            }
        }
        for answer in root.on_tick(&self.host) {
            self.answer(answer);
        }
    }

    /// See [`Stream::on_request_headers`].
    pub fn on_request_headers(&mut self, context: u32, end_of_stream: bool) -> Action {
        self.with(context, Action::Continue, |host, root, stream| {
            stream.on_request_headers(host, root, end_of_stream)
        })
    }

    /// See [`Stream::on_request_body`].
    pub fn on_request_body(&mut self, context: u32, size: usize, end_of_stream: bool) -> Action {
        self.with(context, Action::Continue, |host, root, stream| {
            stream.on_request_body(host, root, size, end_of_stream)
        })
    }

    /// See [`Stream::on_request_trailers`].
    pub fn on_request_trailers(&mut self, context: u32) -> Action {
        self.with(context, Action::Continue, |host, root, stream| {
            stream.on_request_trailers(host, root)
        })
    }

    /// See [`Stream::on_response_headers`].
    pub fn on_response_headers(&mut self, context: u32, end_of_stream: bool) {
        self.with(context, (), |host, root, stream| {
            stream.on_response_headers(host, root, end_of_stream);
        });
    }

    /// See [`Stream::on_response_body`].
    pub fn on_response_body(&mut self, context: u32, size: usize, end_of_stream: bool) {
        self.with(context, (), |host, root, stream| {
            stream.on_response_body(host, root, size, end_of_stream);
        });
    }

    /// See [`Stream::on_response_trailers`].
    pub fn on_response_trailers(&mut self, context: u32) {
        self.with(context, (), |_, _, stream| stream.on_response_trailers());
    }

    /// The answer to a call of any root's.
    pub fn on_call_reply(&mut self, token: u32, reply: &Reply) {
        let host = &self.host;
        let waiting = self
            .roots
            .values_mut()
            .filter_map(|root| root.take_call(token).map(|purpose| (root, purpose)))
            .find_map(|(root, purpose)| root.on_reply(host, purpose, reply));
        if let Some(answer) = waiting {
            self.answer(answer);
        }
    }

    /// A message on any root's stream.
    pub fn on_stream_message(&mut self, token: u32, message: &[u8]) {
        let root = self.roots.values_mut().find(|root| root.has_stream(token));
        if let Some(answer) = root.and_then(|root| root.on_stream_message(&self.host, message)) {
            self.answer(answer);
        }
    }

    /// The other side closed any root's stream.
    pub fn on_stream_close(&mut self, token: u32) {
        let Some(root) = self.roots.values_mut().find(|root| root.has_stream(token)) else {
            return;
        };
        for answer in root.on_stream_close(&self.host) {
            self.answer(answer);
        }
    }

    fn answer(&mut self, (context, answer): Answer) {
        // The request may be gone since, from us or from Envoy.
        if self.streams.contains_key(&context) && self.host.act_for(context).is_ok() {
            self.with(context, (), |host, root, stream| stream.on_answer(host, root, answer));
        }
    }

    /// A stream or a root has come to its end; its context id will not come again.
    pub fn on_delete(&mut self, context: u32) {
        self.with(context, (), |host, root, stream| stream.on_done(host, root));
        if let Some(mut root) = self.roots.remove(&context) {
            root.on_done(&self.host);
        }
        self.streams.remove(&context);
    }

    fn with<T>(
        &mut self,
        context: u32,
        otherwise: T,
        callback: impl FnOnce(&dyn Host, &mut Root, &mut Stream) -> T,
    ) -> T {
        let Some((root, stream)) = self.streams.get_mut(&context) else { return otherwise };
        let Some(root) = self.roots.get_mut(root) else { return otherwise };
        callback(&self.host, root, stream)
    }
}
