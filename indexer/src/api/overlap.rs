//! `POST /v1/overlap`: who holds how much of a prompt; nothing is booked.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use warmpath_protocol::Hash;

use super::error::read_json;
use super::route::Form;
use super::{Api, ApiError};
use crate::router::{Hashes, RouteError, sized};

#[derive(Deserialize)]
struct Request {
    model: String,
    adapter: Option<String>,
    cache_salt: Option<String>,
    token_ids: Option<Vec<u32>>,
    /// Block size → hashes, as for `/v1/route`.
    hashes: Option<BTreeMap<String, Vec<Hash>>>,
}

#[derive(Serialize)]
struct Answer {
    /// The smallest block size among the model's workers; 0 where none is known.
    block_size: u32,
    /// Full blocks of the prompt, in that size.
    total_blocks: usize,
    /// Who holds at least one leading block, most first.
    holders: Vec<Held>,
}

#[derive(Serialize)]
struct Held {
    worker: String,
    rank: u32,
    /// On the device.
    blocks: u32,
    tiers: Tiers,
    /// Of this holder.
    block_size: u32,
}

/// Leading blocks without a hole; each tier goes on where the one before it ends.
#[derive(Serialize)]
struct Tiers {
    device: u32,
    host: u32,
    disk: u32,
}

pub(super) async fn overlap(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: Request = read_json(&body?)?;
    let (model, is_adapter) = api
        .names
        .find(&request.model)
        .ok_or_else(|| RouteError::UnknownModel(request.model.clone()))?;
    let view = api.fleet.view();
    let sizes = view.block_sizes(model);
    let named = request.adapter.as_deref().or(is_adapter.then_some(request.model.as_str()));
    let seed = warmpath_blocks::seed(named, request.cache_salt.as_deref());
    let hashes = match (request.token_ids, request.hashes) {
        (Some(tokens), None) => {
            let hashed =
                |&size: &u32| (size, warmpath_blocks::local_hashes(&tokens, size as usize, seed));
            Hashes::BySize(sizes.iter().map(hashed).collect())
        }
        (None, Some(hashes)) => sized(hashes)?,
        _ => return Err(ApiError::bad_request("send either token_ids or hashes")),
    };
    let mut holders = Vec::new();
    for &size in &sizes {
        let Some(hashes) = hashes.of(size) else { continue };
        for found in api.fleet.index().find_matches(hashes) {
            let worker = view.of_model(model).iter().find(|one| one.id == found.holder.worker);
            let Some(worker) = worker else { continue };
            let Some(rank) = worker.ranks.get(found.holder.rank as usize) else { continue };
            if worker.block_size(rank) == size {
                holders.push(Held {
                    worker: worker.name.to_string(),
                    rank: found.holder.rank,
                    blocks: found.blocks,
                    tiers: Tiers { device: found.blocks, host: found.host, disk: found.disk },
                    block_size: size,
                });
            }
        }
    }
    holders.sort_by(|a, b| {
        b.blocks.cmp(&a.blocks).then_with(|| (&a.worker, a.rank).cmp(&(&b.worker, b.rank)))
    });
    let block_size = sizes.first().copied().unwrap_or(0);
    let total_blocks = hashes.of(block_size).map_or(0, <[u64]>::len);
    Ok(Form::Json.respond(StatusCode::OK, &Answer { block_size, total_blocks, holders }))
}
