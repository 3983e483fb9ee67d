//! What the server of callers or of other hosts asks the proxy, and tells the telemetry.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::proxy::Proxy;
use crate::server::Hooks;
use crate::telemetry::{LimitName, Telemetry};

/// What the server tells of callers, and whom it asks for words.
pub(super) fn hooks(proxy: &Proxy, telemetry: &Arc<Telemetry>) -> Hooks {
    let (proxy, telemetry) = (proxy.clone(), Arc::clone(telemetry));
    Hooks {
        bare_answer: Arc::new(move |status, client| proxy.answer_unreadable(status, client)),
        limit_hit: Arc::new(move |detail| {
            if let Some(limit) = LimitName::of(detail) {
                telemetry.limit_hit(limit);
            }
        }),
    }
}

/// The answer to a call whose handling panicked.
pub(super) fn answer_panic(_panic: Box<dyn Any + Send + 'static>) -> Response<Full<Bytes>> {
    Proxy::answer_panic()
}
