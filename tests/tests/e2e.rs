//! A hub as a process: mail through it, octet by octet, on every driver; starts, stops and refusals.

#![forbid(unsafe_code)]

mod e2e {
    mod conformance;
    mod crowd;
    mod descriptors;
    mod flood;
    mod frontend;
    mod full_disk;
    mod hostile;
    mod mail;
    mod mailbox;
    mod manners;
    mod messages;
    mod next_hop;
    mod odd_hosts;
    mod process;
    mod queues;
    mod reports;
    mod resources;
    mod roles;
    mod shards;
    mod silence;
    mod together;
    mod traced;
}
