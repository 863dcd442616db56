//! The API alone on loopback, with a far end that never answers: for trying it by hand, and for schemathesis.
//!
//! `cargo run -p postkey-api --example serve -- 127.0.0.1:8025`

#[allow(dead_code, unreachable_pub)]
#[path = "../tests/it/house.rs"]
mod house;

use std::time::Duration;

use house::{ALL, House};
use postkey_api::{Listening, serve};
use postkey_store::SubmitterRules;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8025".into());
    let house = House::open().await;
    house.submitter("shop", SubmitterRules::default()).await;
    let (bound, all) = (house.key("bound", Some("shop"), &ALL).await, house.key("all", None, &ALL).await);
    let listener = TcpListener::bind(&address).await.expect("the address is free");
    println!("URL=http://{}", listener.local_addr().expect("it is bound"));
    println!("BOUND_KEY={bound}");
    println!("ALL_KEY={all}");
    let stop = CancellationToken::new();
    let within = Duration::from_secs(1);
    serve(Listening { listener, tls: None, stop, within }, house.router.clone()).await;
}
