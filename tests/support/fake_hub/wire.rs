//! The two listening sockets and the runtime that serves them.
//!
//! Invariant: while stopped, the ports stay bound and unheard, so clients are refused and nobody else takes them.

use super::{Shared, api, cdn};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

const WORKERS: usize = 2;
/// Connections waiting to be accepted: more than any client here opens at once.
const BACKLOG: u32 = 1024;

pub(super) struct Servers {
    state: State,
}

enum State {
    Running(Runtime),
    Stopped(Bound),
    /// Only between two of the others.
    Changing,
}

/// Sockets that are bound but not heard.
pub(super) struct Bound {
    hub: TcpSocket,
    cdn: TcpSocket,
}

impl Bound {
    /// Zero means any port.
    pub fn at(hub_port: u16, cdn_port: u16) -> Self {
        Self { hub: bind(hub_port), cdn: bind(cdn_port) }
    }

    pub fn ports(&self) -> (u16, u16) {
        let port = |socket: &TcpSocket| socket.local_addr().expect("bound").port();
        (port(&self.hub), port(&self.cdn))
    }
}

fn bind(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // A port whose connections were just cut can be taken again at once, and one that is heard can be bound once more.
    socket.set_reuseaddr(true).expect("an option of sockets");
    socket.set_reuseport(true).expect("an option of sockets");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("a free port of the loopback");
    socket
}

impl Servers {
    pub fn run(bound: Bound, shared: &Arc<Shared>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("fake-hub")
            .enable_all()
            .build()
            .expect("threads for a runtime");
        let (hub, cdn) = {
            let _inside = runtime.enter();
            let hub = bound.hub.listen(BACKLOG).expect("a bound socket");
            (hub, bound.cdn.listen(BACKLOG).expect("a bound socket"))
        };
        runtime.spawn(serve(hub, Router::new().fallback(api::answer).with_state(Arc::clone(shared))));
        runtime.spawn(serve(cdn, Router::new().fallback(cdn::answer).with_state(Arc::clone(shared))));
        Self { state: State::Running(runtime) }
    }

    pub fn stop(&mut self, shared: &Shared) {
        if matches!(self.state, State::Running(_)) {
            // Taken before they are let go: a port that is free for a moment may be another program's the next.
            let bound = Bound::at(shared.hub_port, shared.cdn_port);
            self.end();
            self.state = State::Stopped(bound);
        }
    }

    pub fn resume(&mut self, shared: &Arc<Shared>) {
        if matches!(self.state, State::Running(_)) {
            return;
        }
        let State::Stopped(bound) = std::mem::replace(&mut self.state, State::Changing) else { return };
        self.state = Self::run(bound, shared).take();
    }

    fn take(mut self) -> State {
        std::mem::replace(&mut self.state, State::Changing)
    }

    fn end(&mut self) {
        if let State::Running(runtime) = std::mem::replace(&mut self.state, State::Changing) {
            // A runtime must not be ended inside another one's task, where tests may well be.
            let ending = std::thread::spawn(move || drop(runtime));
            ending.join().expect("the end of a runtime does not panic");
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let _ = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>()).await;
}

/// The connection a request came by.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    socket: RawFd,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        // Small answers must not wait for the acknowledgement of the ones before. Without it they are only slower.
        let _ = stream.io().set_nodelay(true);
        Self { socket: stream.io().as_raw_fd() }
    }
}

impl Peer {
    /// Closing the connection will be a reset, and what was not sent is dropped.
    pub fn reset_on_close(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a few bytes");
        // SAFETY: the pointer and the length describe `linger`. The descriptor is open: it belongs to the connection
        // whose answer is calling this.
        let outcome = unsafe {
            libc::setsockopt(self.socket, libc::SOL_SOCKET, libc::SO_LINGER, std::ptr::from_ref(&linger).cast(), length)
        };
        assert_eq!(outcome, 0, "an open socket takes this option");
    }
}
