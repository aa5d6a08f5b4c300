//! Small fixed workloads whose instructions are counted (`.ci/instructions`): the same work, octet by octet, each time,
//! without I/O, so that a count moves only when the code does.
//!
//! `workloads` prints the names; `workloads NAME` runs one.

#![forbid(unsafe_code)]

use engine::sys::slice::{Budget, Pool};
use std::hint::black_box;

type Workload = (&'static str, fn());

const WORKLOADS: &[Workload] = &[("leases", leases)];

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        for (name, _) in WORKLOADS {
            println!("{name}");
        }
        return;
    };
    let Some((_, run)) = WORKLOADS.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no workload `{wanted}`");
        std::process::exit(2);
    };
    run();
}

/// 1000 messages of 4 KiB copied into leased memory, cut up and given back.
fn leases() {
    let pool = Pool::new(Budget::new(8 << 20));
    let message = [b'x'; 4096];
    for _ in 0..1000 {
        let mut fill = pool.fill(5000).expect("within the budget");
        fill.put(&message);
        let slice = fill.take();
        black_box(slice.sub(1..4000));
    }
}
