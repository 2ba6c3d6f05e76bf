/*!
The sidecar that knows which worker holds which prefix, and decides.

Two flows meet only in the index. The *write path* follows every engine's KV
events and load ([`events`], [`load`]); the *read path* answers route requests
([`api`] → [`router`] → [`policy`]) and keeps what it decided in the [`book`] until
it is done, and, where no events tell, what it [predicts](predict). [`fleet`] knows the workers and owns the
tasks that follow them, [`models`] what the filter needs to tokenize, [`config`]
what the operator said, and [`app`] puts it together. [`recording`] plays a
recorded engine through the write path, [`launch`] starts real engines.

The sidecar is native and outside of Envoy, not a part of the filter, because
the index must be one for all of Envoy's threads, which share nothing, and
because event streams are connections, which a filter can not hold.

It sees hashes, never prompts, unless a filter asks it to tokenize
(`/v1/route/text`); even then no text is kept or logged.
*/

pub mod api;
pub mod app;
pub mod book;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod events;
pub mod fleet;
pub mod launch;
pub mod load;
pub mod models;
pub mod policy;
pub mod predict;
pub mod recording;
pub mod router;
pub mod saturation;
pub mod tokens;
