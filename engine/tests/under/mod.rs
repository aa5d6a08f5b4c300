//! The drivers that a test of a server's services runs on, each on its own thread.

mod contract;

pub use contract::Under;

use crate::skip;
use engine::io::epoll::{self, Epoll};
use engine::io::tokio_uring::{self, TokioUring};
use engine::io::uring::{self, Uring};

pub struct OnEpoll;

impl Under for OnEpoll {
    type Driver = Epoll;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(Epoll) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        epoll::run(&epoll::Options::default(), f).expect("runs");
    }
}

pub struct OnUring;

impl Under for OnUring {
    type Driver = Uring;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(Uring) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        skip::unless_refused(uring::run(uring::Setup::default(), f));
    }
}

pub struct OnTokioUring;

impl Under for OnTokioUring {
    type Driver = TokioUring;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(TokioUring) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        skip::unless_refused(tokio_uring::run(f));
    }
}
