//! Takes connections: one task a listener, none lost in a burst, none taken for good by an error of the moment.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use postkey_smtp::{EnhancedCode, Reply, server::encode_reply};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    conversation::Conversation,
    doorway::{Full, Ticket},
    driver::Driver,
    link::{Link, LinkError, Wire},
    service::House,
    settings::{Listener, Mode},
    tally::one_more,
};

/// An open listener.
pub(crate) struct Open {
    house: Arc<House>,
    listener: Arc<Listener>,
    name: Arc<str>,
    socket: TcpListener,
    /// As bound: port 0 has become a number.
    pub(crate) address: SocketAddr,
}

impl Open {
    /// Binds with a backlog that holds a burst while the accepting task is busy.
    pub(crate) fn bind(house: Arc<House>, listener: Listener) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(listener.address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of its predecessor to time out.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&listener.address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { house, name: listener.name.as_str().into(), listener: Arc::new(listener), socket, address })
    }

    /// Until the service stops.
    pub(crate) async fn accept(self) {
        let mut troubled = false;
        loop {
            // Accepting takes nothing off the queue until it is done, so it may be dropped.
            let accepted = tokio::select! {
                () = self.house.stopping.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    troubled = false;
                    self.take(stream, peer);
                }
                // The client was gone before it was taken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of file descriptors or memory: those inside finish, and those who wait stay in the backlog.
                    if !troubled {
                        tracing::error!(
                            listener.name = &*self.name,
                            "no connection can be taken: {error}. Trying again; raise the limit of open files (ulimit -n) if it stays"
                        );
                    }
                    troubled = true;
                    sleep(AFTER_TROUBLE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let house = Arc::clone(&self.house);
        let (name, listener) = (Arc::clone(&self.name), Arc::clone(&self.listener));
        let tally = self.house.directory.tally();
        match house.doorway.enter() {
            Ok(ticket) => {
                one_more(&tally.connections);
                let task = async move { converse(house, listener, name, stream, peer, ticket).await };
                self.house.sessions.spawn(task);
            }
            Err(full) => {
                one_more(&tally.turned_away);
                turn_away(&house, &stream, full);
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn converse(
    house: Arc<House>,
    listener: Arc<Listener>,
    name: Arc<str>,
    stream: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
) {
    let session = prepare(&house, &listener, &name, stream, peer, ticket);
    // Boxed: the state of a session would otherwise be copied with each move of this future.
    let session = Box::pin(async move {
        if let Some((driver, ticket)) = session.await {
            driver.run().await;
            drop(ticket);
        }
    });
    let _inside = house.directory.tally().session();
    // What is in hand when the time to stop is over is cut off; its client will try again.
    tokio::select! {
        () = session => {}
        () = house.over.cancelled() => {}
    }
}

async fn prepare(
    house: &Arc<House>,
    listener: &Listener,
    name: &Arc<str>,
    stream: TcpStream,
    peer: SocketAddr,
    mut ticket: Ticket,
) -> Option<(Driver, Ticket)> {
    // Replies are written whole, so waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok()?;
    let peer_address = peer.ip().to_canonical();
    let mut wire = Wire::new(stream);
    let (mut client, mut by_network) = (peer_address, true);
    let failed = |error: &LinkError| {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        tracing::info!(listener.name = &**name, client.address = %peer_address, "connection ended: {error}{cause}");
    };
    if listener.proxies.iter().any(|network| network.contains(&peer_address)) {
        match wire.proxied(house.settings.handshake_within).await {
            Ok(Some(source)) => client = source.ip().to_canonical(),
            // The proxy speaks for itself (LOCAL) or does not say for whom: its own network is nobody's.
            Ok(None) => by_network = false,
            Err(error) => {
                failed(&error);
                return None;
            }
        }
    }
    if let Err(full) = ticket.is_for(client) {
        one_more(&house.directory.tally().turned_away);
        let mut link = Link::Clear(wire);
        if listener.mode != Mode::Implicit {
            let _ = timeout(Duration::from_secs(1), link.write_all(&refusal(house, full))).await;
        }
        return None;
    }
    let tls = house.tls.as_ref().map(|tls| tls.config());
    let mut conversation = Conversation::new(Arc::clone(house), Arc::clone(name), listener.mode, client, by_network);
    let mut link = Link::Clear(wire);
    if listener.mode == Mode::Implicit {
        let secured = match tls.clone() {
            Some(config) => link.secure(config, house.settings.handshake_within).await,
            // A listener without a certificate was refused at the start.
            None => return None,
        };
        match secured {
            Ok((secured, facts)) => {
                link = secured;
                conversation.secured(facts);
            }
            Err(error) => {
                failed(&error);
                return None;
            }
        }
    }
    let on_loopback = client.is_loopback() && peer_address.is_loopback() && local.ip().to_canonical().is_loopback();
    Some((Driver::new(Arc::clone(house), link, conversation, listener.mode, on_loopback, tls), ticket))
}

/// Says why, if the kernel takes it at once, and closes.
fn turn_away(house: &House, stream: &TcpStream, full: Full) {
    let _ = stream.try_write(&refusal(house, full));
}

fn refusal(house: &House, full: Full) -> bytes::Bytes {
    let text = format!("{} {full}", house.settings.host_name);
    let mut out = bytes::BytesMut::new();
    encode_reply(&Reply::new(421, EnhancedCode::parse("4.3.2"), [text]), &mut out);
    out.freeze()
}

/// The kernel takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// Long enough for a session to end, short enough not to be felt.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);
