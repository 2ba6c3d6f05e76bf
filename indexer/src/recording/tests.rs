//! More than the report compares: every moment, and the engine's own word.

use super::*;

fn recording(name: &str) -> Recording {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    Recording::read(&folder.join(format!("{name}.jsonl"))).unwrap()
}

/// After each message, every prompt of the recording: prompts that are gone, half
/// gone or still to come, and not only the one that has just been served.
#[test]
fn at_every_moment_every_prompt_has_the_overlap_that_the_events_imply() {
    for name in ["eviction", "clear", "default_chat", "restart", "dp2", "v0.23.0_array"] {
        let recording = recording(name);
        let mut stage = Stage::new(&recording, None);
        let requests: Vec<&Request> = recording
            .lines
            .iter()
            .filter_map(|(_, line)| match line {
                Line::Request(request) => Some(request),
                _ => None,
            })
            .collect();
        let mut partial = 0;
        for (number, line) in &recording.lines {
            let Line::Published { subscriber, frames } = line else { continue };
            stage.publish(subscriber, frames);
            for request in &requests {
                for tokens in &request.prompts {
                    let checked = stage.check(*number, request, tokens);
                    assert!(checked.agrees(), "{name}: {checked:?}");
                    partial += checked.overlaps.iter().filter(|o| o.blocks < o.of).count();
                }
            }
            assert_eq!(stage.index.audit(), Ok(()));
        }
        assert!(partial > 0, "{name} compares nothing that is only partly there");
    }
}

/// What the index says just before a request is what the engine then has cached:
/// but for the last block of a prompt that ends with it, one token is always
/// computed.
#[test]
fn the_overlap_before_a_request_is_what_the_engine_then_reports_as_cached() {
    let mut compared = 0;
    for name in ["default_chat", "eviction", "chunked_prefill", "restart"] {
        let recording = recording(name);
        let mut stage = Stage::new(&recording, None);
        let mut messages = Vec::new();
        for (number, line) in &recording.lines {
            match line {
                Line::Published { subscriber, frames } => messages.push((subscriber, frames)),
                Line::Replayed { .. } => {}
                // Requests that ran together, and the samples of one, have no one
                // moment before.
                Line::Request(request) => {
                    let alone = !request.note.contains("parallel") && request.note != "n=2";
                    if let ([tokens], Some(cached), true) =
                        (request.prompts.as_slice(), request.cached_tokens, alone)
                    {
                        let overlap = stage.check(*number, request, tokens).overlaps[0].blocks;
                        // The first life's state is not known to be over before the next speaks.
                        let cold = request.note.starts_with("first request after");
                        let usable = (tokens.len() as u64 - 1) / 32;
                        let expected = if cold { 0 } else { usable.min(overlap.into()) * 32 };
                        assert_eq!(cached, expected, "{name}:{number}: {}", request.note);
                        compared += 1;
                    }
                    for (subscriber, frames) in messages.drain(..) {
                        stage.publish(subscriber, frames);
                    }
                }
            }
        }
    }
    assert!(compared > 30, "only {compared}");
}
