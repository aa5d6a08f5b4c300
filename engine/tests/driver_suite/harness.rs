//! How a test of the suite is run, and the peers that it talks to.

pub use crate::under::Under;
use engine::io::driver::{Conn, Driver, Next, Remote};
use engine::sys::slice::{Budget, Fill, Pool, Slice};
use engine::wire::{Span, Tick};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::pin::pin;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A test that takes longer hangs. Generous: the machine may be busy.
const TEST_WAIT: Duration = Duration::from_secs(120);

/// Says to a child process which test it is to run.
const CHILD: &str = "RINGPOST_DRIVER_SUITE_CHILD";

/// Runs `test` on a thread of its own and fails when it does not end.
pub fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let run = move || {
        test();
        let _ = done.send(());
    };
    let thread = std::thread::Builder::new().name(name).spawn(run).expect("a thread");
    if finished.recv_timeout(TEST_WAIT) == Err(RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `test` in a process of its own, where it may count and limit descriptors. `name` is what the test runner calls it.
pub fn in_child(name: &str, test: impl FnOnce() + Send + 'static) {
    let name = name.split_once("::").map_or(name, |(_crate, path)| path);
    if std::env::var_os(CHILD).is_some() {
        return in_time(test);
    }
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("started");
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", child.status);
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
                    Fut: Future<Output = ()> + 'static,
                {
                    $crate::skip::unless_refused($run);
                }
            }
            $crate::order::tests!(super::It);
            $crate::aim::tests!(super::It);
            $crate::sending::tests!(super::It);
            $crate::ending::tests!(super::It);
            $crate::many::tests!(super::It);
            $crate::files::tests!(super::It);
            $crate::time::tests!(super::It);
        }
    };
}

/// Defines `tests!`, which instantiates each of the named generic functions of a module; those after `alone` in a process
/// of their own.
#[macro_export]
macro_rules! each {
    ($module:ident: $($test:ident)* $(; alone $($alone:ident)*)?) => {
        macro_rules! tests {
            ($under:ty) => {
                mod $module {
                    $(
                        #[test]
                        fn $test() {
                            $crate::harness::in_time($crate::$module::$test::<$under>);
                        }
                    )*
                    $($(
                        #[test]
                        fn $alone() {
                            let name = concat!(module_path!(), "::", stringify!($alone));
                            $crate::harness::in_child(name, $crate::$module::$alone::<$under>);
                        }
                    )*)?
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

/// Something blocking, under way on a thread of its own.
pub struct Elsewhere<T>(Arc<Mutex<Option<std::thread::Result<T>>>>);

/// Starts `act`, which blocks, on a thread of its own.
pub fn start<D: Driver, T: Send + 'static>(driver: &D, act: impl FnOnce() -> T + Send + 'static) -> Elsewhere<T> {
    let answer = Arc::new(Mutex::new(None));
    let (slot, remote) = (answer.clone(), driver.remote());
    std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        *slot.lock().expect("not poisoned") = Some(result);
        remote.wake();
    });
    Elsewhere(answer)
}

impl<T> Elsewhere<T> {
    /// What came of it. One task at a time waits like this.
    pub async fn finish<D: Driver>(self, driver: &D) -> T {
        loop {
            if let Some(result) = self.0.lock().expect("not poisoned").take() {
                return result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            driver.woken().await;
        }
    }
}

/// What `act` returns, which blocks and therefore runs elsewhere.
pub async fn elsewhere<D: Driver, T: Send + 'static>(driver: &D, act: impl FnOnce() -> T + Send + 'static) -> T {
    start(driver, act).finish(driver).await
}

/// Long enough to be sure that nothing comes; used only where nothing is to come.
pub const QUIET: Span = Span::millis(60);

/// A deadline that a working driver never meets.
pub fn soon<D: Driver>(driver: &D) -> Tick {
    driver.precise_now() + Span::seconds(60)
}

/// The next event, with everything shown consumed.
pub async fn next_all<D: Driver>(driver: &D, conn: &mut D::Conn) -> Next<Vec<u8>> {
    conn.next(soon(driver), |bytes| (bytes.len(), bytes.to_vec())).await
}

/// The next event, with nothing consumed.
pub async fn next_none<D: Driver>(driver: &D, conn: &mut D::Conn) -> Next<Vec<u8>> {
    conn.next(soon(driver), |bytes| (0, bytes.to_vec())).await
}

/// Asserts that nothing happens on the connection.
pub async fn nothing<D: Driver>(driver: &D, conn: &mut D::Conn) {
    let by = driver.precise_now() + QUIET;
    match conn.next(by, |bytes| (0, bytes.to_vec())).await {
        Next::Deadline => assert!(driver.precise_now() >= by, "early"),
        other => panic!("{other:?} instead of nothing"),
    }
}

/// Waits until exactly `expected` octets are shown, without consuming any.
pub async fn until_shown<D: Driver>(driver: &D, conn: &mut D::Conn, expected: &[u8]) {
    loop {
        match next_none(driver, conn).await {
            Next::Bytes(bytes) if bytes == expected => return,
            Next::Bytes(bytes) => assert!(expected.starts_with(&bytes), "{bytes:?} is no beginning of {expected:?}"),
            other => panic!("{other:?} before {expected:?}"),
        }
    }
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

/// Polls `future` once and drops it.
pub fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Completes when `done` says so; turns the loop meanwhile.
pub async fn until<D: Driver>(driver: &D, mut done: impl FnMut() -> bool) {
    let limit = soon(driver);
    while !done() {
        assert!(driver.precise_now() < limit, "never came");
        driver.sleep(Span::millis(1)).await;
    }
}

/// A pool large enough for any test.
pub fn pool() -> Pool {
    Pool::new(Budget::new(64 << 20))
}

/// A chunk with room for exactly `room` octets.
pub fn fill(pool: &Pool, room: usize) -> Fill {
    let mut fill = pool.fill(room).expect("within budget");
    assert!(fill.room() >= room, "one chunk holds it");
    fill.limit(room);
    fill
}

/// `bytes` as a slice.
pub fn slice(pool: &Pool, bytes: &[u8]) -> Slice {
    let mut fill = fill(pool, bytes.len());
    assert_eq!(fill.put(bytes), bytes.len());
    fill.take()
}

/// `count` octets of which each eight tell their place, so that what is lost, doubled or moved is seen.
pub fn numbered(count: usize) -> Vec<u8> {
    (0..count as u64).step_by(8).flat_map(u64::to_be_bytes).take(count).collect()
}

/// A cheap generator for test shapes (xorshift); the seed is printed by the test that fails.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
