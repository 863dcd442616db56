//! Where reverse proxies were named, only they may connect: the way from them to us may be in clear text, anybody else's not.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use ipnet::IpNet;

/// The routes, for the named proxies and this machine; for everybody where none was named.
pub(super) fn only_for(proxies: &[IpNet], routes: Router) -> Router {
    if proxies.is_empty() {
        return routes;
    }
    let proxies: Arc<[IpNet]> = proxies.into();
    routes.layer(from_fn(move |request: Request, next: Next| {
        let proxies = Arc::clone(&proxies);
        async move { answer(&proxies, request, next).await }
    }))
}

async fn answer(proxies: &[IpNet], request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
    match peer {
        Some(peer) if peer.is_loopback() || proxies.iter().any(|network| network.contains(&peer)) => {
            next.run(request).await
        }
        _ => (StatusCode::FORBIDDEN, "Only the reverse proxies of http.proxies may connect here.\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn with_proxies_named_nobody_else_gets_an_answer() {
        for (proxies, peer, status) in [
            (&["10.0.0.0/8"][..], "10.1.2.3:5", 200),
            (&["10.0.0.0/8"], "127.0.0.1:5", 200),
            (&["10.0.0.0/8"], "[::ffff:10.1.2.3]:5", 200),
            (&["10.0.0.0/8"], "192.0.2.1:5", 403),
            (&[], "192.0.2.1:5", 200),
        ] {
            let proxies: Vec<IpNet> = proxies.iter().map(|network| network.parse().unwrap()).collect();
            let routes = only_for(&proxies, Router::new().route("/", get(async || "well")));
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            assert_eq!(routes.oneshot(request).await.unwrap().status().as_u16(), status, "{peer} {proxies:?}");
        }
    }
}
