//! What the reader of single fields can not see: names, addresses, the whole.

use std::collections::HashSet;

use super::fields::nearest;
use super::{Config, WorkerConfig};
use crate::policy::Settings;

pub(super) fn config(config: &Config, errors: &mut Vec<String>) {
    policy(&config.policy, errors);
    if config.listen == config.admin && config.listen.port() != 0 {
        errors.push(format!(
            "admin: {} is the API's own address; the two are served apart",
            config.admin
        ));
    }
    let mut names = HashSet::new();
    for (at, model) in config.models.iter().enumerate() {
        let all = std::iter::once(&model.name).chain(&model.aliases).chain(&model.adapters);
        for name in all {
            if name.is_empty() {
                continue;
            }
            if !names.insert(name.as_str()) {
                errors.push(format!(
                    "models[{at}]: the name {name:?} is taken; every name, alias and adapter \
                     names one thing"
                ));
            }
        }
        if let Some(path) = model.path.as_ref().filter(|path| !path.is_dir()) {
            errors.push(format!("models[{at}].path: {} is not a folder", path.display()));
        }
    }
    let models: Vec<&str> = config.models.iter().map(|model| model.name.as_str()).collect();
    let mut ids = HashSet::new();
    let mut endpoints = HashSet::new();
    for (at, one) in config.workers.iter().enumerate() {
        let path = format!("workers[{at}]");
        worker(one, &path, &models, errors);
        if !one.id.is_empty() && !ids.insert(one.id.as_str()) {
            errors.push(format!("{path}.id: the id {:?} is taken", one.id));
        }
        if !one.endpoint.is_empty() && !endpoints.insert(one.endpoint.as_str()) {
            errors.push(format!("{path}.endpoint: another worker has {} already", one.endpoint));
        }
    }
}

pub(super) fn policy(settings: &Settings, errors: &mut Vec<String>) {
    let known = crate::policy::names();
    if !known.contains(&settings.policy.as_str()) {
        let hint = nearest(&settings.policy, &known).map_or_else(
            || format!("known are {}", known.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        errors.push(format!("policy: no policy {:?}; {hint}", settings.policy));
    }
}

pub(super) fn worker(worker: &WorkerConfig, path: &str, models: &[&str], errors: &mut Vec<String>) {
    if !worker.model.is_empty() && !models.contains(&worker.model.as_str()) {
        let hint = nearest(&worker.model, models).map_or_else(
            || format!("known are [{}]", models.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        errors.push(format!("{path}.model: no model {:?}; {hint}", worker.model));
    }
    // The filter refuses a decision that names such a worker or cluster.
    let unfit = |c: char| !c.is_ascii_graphic() || c == ',';
    if worker.id.contains(|c: char| unfit(c) || c == '/') {
        errors.push(format!(
            "{path}.id: {:?} has blanks, commas, slashes or letters beyond ASCII, which headers \
             and paths can not carry",
            worker.id
        ));
    }
    let made = worker.cluster == format!("worker-{}", worker.id);
    if !made && (worker.cluster.is_empty() || worker.cluster.contains(unfit)) {
        errors.push(format!(
            "{path}.cluster: expected a name without blanks, commas and letters beyond ASCII, \
             found {:?}",
            worker.cluster
        ));
    }
    if !worker.endpoint.is_empty() && host_port(&worker.endpoint).is_none() {
        errors.push(format!("{path}.endpoint: expected ip:port, found {:?}", worker.endpoint));
    }
    let last = worker.ranks.saturating_sub(1);
    if let Some(events) = &worker.events {
        if events.is_polled() {
            let path = format!("{path}.events");
            http(&events.endpoint, &format!("{path}.endpoint"), errors);
            if events.replay.is_some() || events.bind || !events.topic.is_empty() {
                errors.push(format!(
                    "{path}: replay, bind and topic are for ZMQ; an engine that is asked for its \
                     events has none of them"
                ));
            }
        } else if !events.endpoint.is_empty() {
            zmq(&events.endpoint, last, &format!("{path}.events.endpoint"), errors);
        }
        if let Some(replay) = &events.replay {
            zmq(replay, last, &format!("{path}.events.replay"), errors);
        }
    }
    if let Some(endpoint) = &worker.load.zmq {
        zmq(endpoint, 0, &format!("{path}.load.zmq"), errors);
    }
    if let Some(url) = &worker.load.prometheus {
        http(url, &format!("{path}.load.prometheus"), errors);
    }
    if !worker.health.path.starts_with('/') {
        errors.push(format!(
            "{path}.health.path: expected a path from /, found {:?}",
            worker.health.path
        ));
    }
}

fn http(url: &str, path: &str, errors: &mut Vec<String>) {
    if !reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http") {
        errors.push(format!("{path}: expected http://host:port/path, found {url:?}"));
    }
}

/// Host and port of `host:port`; an IPv6 address stands in brackets.
fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    named.then_some((host, port))
}

/// `tcp://host:port`; also the port of a later rank must be one.
fn zmq(endpoint: &str, last_rank: u32, path: &str, errors: &mut Vec<String>) {
    if crate::fleet::rank_endpoint(endpoint, last_rank).is_none() {
        let ranks =
            if last_rank > 0 { format!(", with {last_rank} more above it") } else { String::new() };
        errors.push(format!("{path}: expected tcp://host:port{ranks}, found {endpoint:?}"));
    }
}
