//! What every driver promises, sentence by sentence of the contract (`engine::io::driver`), put to each of them.
//!
//! To add a driver, add one line to the list below. Peers are the standard library's blocking sockets on threads of their
//! own, so that no driver is measured against itself.

#![forbid(unsafe_code)]

#[macro_use]
mod harness;
mod aim;
mod ending;
mod files;
mod many;
mod order;
mod sending;
#[path = "../../../tests/src/skip.rs"]
mod skip;
mod time;
#[path = "../under/contract.rs"]
mod under;

suite!(epoll, engine::io::epoll::Epoll, |f| engine::io::epoll::run(&engine::io::epoll::Options::default(), f));
suite!(faulty_on_epoll, engine::io::faulty::Faulty<engine::io::epoll::Epoll>, |f| {
    let sound = |driver| f(engine::io::faulty::Faulty::new(driver, engine::io::faulty::Faults::none()));
    engine::io::epoll::run(&engine::io::epoll::Options::default(), sound)
});
suite!(uring, engine::io::uring::Uring, |f| engine::io::uring::run(engine::io::uring::Setup::default(), f));

/// A ring that has two buffers to receive into, so that they always run out.
mod uring_of_two_buffers {
    use engine::io::uring::{Setup, Uring, run};

    pub struct It;

    impl crate::harness::Under for It {
        type Driver = Uring;
        fn run<F, Fut>(f: F)
        where
            F: FnOnce(Uring) -> Fut,
            Fut: Future<Output = ()> + 'static,
        {
            crate::skip::unless_refused(run(Setup { buffers: 2, ..Setup::default() }, f));
        }
    }

    crate::many::tests!(super::It);
    crate::order::tests!(super::It);
}

/// F-046, F-047: queues so small that nearly every request waits and completions overflow; all else stays as promised.
const TINY: engine::io::uring::Setup =
    engine::io::uring::Setup { buffer_bytes: 16 << 10, buffers: 128, submissions: 1, completions: 2 };
suite!(f_046_f_047_uring_of_tiny_queues, engine::io::uring::Uring, |f| engine::io::uring::run(crate::TINY, f));

suite!(tokio_uring, engine::io::tokio_uring::TokioUring, |f| engine::io::tokio_uring::run(f));
