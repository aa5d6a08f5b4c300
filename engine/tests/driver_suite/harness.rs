//! How a test of the suite is run, and the peers that it talks to.

use engine::io::driver::{Conn, Driver, Next, Remote};
use engine::wire::{Span, Tick};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A test that takes longer hangs. Generous: the machine may be busy.
const TEST_WAIT: Duration = Duration::from_secs(120);

/// A driver under test: its type, and how a thread runs it.
pub trait Under: 'static {
    type Driver: Driver;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(Self::Driver) -> Fut,
        Fut: Future<Output = ()>;
}

/// Runs `test` on a thread of its own and fails when it does not end.
pub fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if finished.recv_timeout(TEST_WAIT) == Err(RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The instantiation of every test of the suite for one driver.
#[macro_export]
macro_rules! suite {
    ($name:ident, $driver:ty, |$f:ident| $run:expr) => {
        mod $name {
            pub struct It;
            impl $crate::harness::Under for It {
                type Driver = $driver;
                fn run<F, Fut>($f: F)
                where
                    F: FnOnce($driver) -> Fut,
                    Fut: Future<Output = ()>,
                {
                    $run.expect("the driver starts");
                }
            }
            $crate::order::tests!(super::It);
        }
    };
}

/// Defines `tests!`, which instantiates each of the named generic functions of a module.
#[macro_export]
macro_rules! each {
    ($module:ident: $($test:ident)*) => {
        macro_rules! tests {
            ($under:ty) => {
                mod $module {
                    $(
                        #[test]
                        fn $test() {
                            $crate::harness::in_time($crate::$module::$test::<$under>);
                        }
                    )*
                }
            };
        }
        pub(crate) use tests;
    };
}

/// Loopback, a port of the system's choice.
pub fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A connection of the driver and its peer's end.
pub async fn pair<D: Driver>(driver: &D) -> (D::Conn, TcpStream) {
    let listener = driver.listen(anywhere()).expect("a free port");
    let at = driver.local(&listener).expect("bound");
    let peer = TcpStream::connect(at).expect("listening");
    let conn = driver.accept(&listener).await.expect("a connection waits");
    peer.set_read_timeout(Some(TEST_WAIT)).expect("valid");
    (conn, peer)
}

/// What `act` returns, which blocks and therefore runs elsewhere.
pub async fn elsewhere<D: Driver, T: Send + 'static>(driver: &D, act: impl FnOnce() -> T + Send + 'static) -> T {
    let answer = Arc::new(Mutex::new(None));
    let (slot, remote) = (answer.clone(), driver.remote());
    let thread = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        *slot.lock().expect("not poisoned") = Some(result);
        remote.wake();
    });
    loop {
        driver.woken().await;
        if let Some(result) = answer.lock().expect("not poisoned").take() {
            thread.join().expect("its panic was caught");
            return result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

/// Long enough to be sure that nothing comes; used only where nothing is to come.
pub const QUIET: Span = Span::millis(60);

/// The next event, with everything shown consumed.
pub async fn next_all<D: Driver>(driver: &D, conn: &mut D::Conn) -> Next<Vec<u8>> {
    conn.next(soon(driver), |bytes| (bytes.len(), bytes.to_vec())).await
}

/// A deadline that a working driver never meets.
pub fn soon<D: Driver>(driver: &D) -> Tick {
    driver.precise_now() + Span::seconds(60)
}

/// Everything received until FIN, notes and room ignored.
pub async fn read_to_end<D: Driver>(driver: &D, conn: &mut D::Conn) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match next_all(driver, conn).await {
            Next::Bytes(bytes) => all.extend(bytes),
            Next::Note(_) | Next::Room => {}
            Next::End => return all,
            other => panic!("{other:?} before the end"),
        }
    }
}
