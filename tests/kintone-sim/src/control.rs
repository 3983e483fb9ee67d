//! The control port: a small JSON API over plain HTTP.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::world::World;

/// Accepts until the simulator stops.
pub(crate) async fn accept(_listener: TcpListener, world: Arc<World>) {
    world.stop.cancelled().await;
}
