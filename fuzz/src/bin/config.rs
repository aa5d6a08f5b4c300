//! A configuration file of any octets: settings, or problems of which one at least is an error; never a panic.

#![no_main]

use engine::config::{File, Machine, Overrides, Weight, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let machine = Machine { hostname: Some("host.test".into()), cores: vec![0, 1], folder: "/var/lib".into() };
    if let Err(problems) = read(Some(File { name: "r.toml", octets }), &Overrides::default(), &machine) {
        assert!(problems.iter().any(|problem| problem.weight == Weight::Error), "refused without an error");
        for problem in &problems {
            assert!(!problem.to_string().contains('\n'), "one problem is one line");
        }
    }
});
