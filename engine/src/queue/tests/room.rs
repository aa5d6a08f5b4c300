//! Connections that end while they are being given up, and those that make room for others at the cap.

use super::super::*;
use super::world::{Mode, World};
use crate::wire::Span;

#[test]
fn m_091_why_a_connection_ended_counts_when_its_last_report_had_closed_it() {
    for reported in [true, false] {
        let mut world = World::new(Options { messages_per_connection: 1, ..Options::rfc() }, &[&[1]]);
        world.set(1, Mode::Stall);
        world.send(0);
        world.run_for(Span::seconds(1));
        let (hop, conn) = (world.hops[0], world.queues.conn(0));
        if reported {
            let sent = world.queues.entries.id(world.queues.links[0].sending.head);
            world.queues.finish(sent, Outcome::Unknown, world.now);
        }
        world.queues.closed(conn, Some(Cause::TimedOut), world.now);
        let status = world.queues.hop(hop);
        assert_eq!(status.last_error.and_then(|error| error.cause), Some(Cause::TimedOut), "reported: {reported}");
        assert_eq!(world.queues.hosts(hop).next().and_then(|host| host.alive), Some(false));
        assert_eq!(status.status, Status::Retry);
        world.queues.closed(conn, Some(Cause::TimedOut), world.now);
        assert_eq!(world.queues.next_action(world.now), None, "it is closed, and told once");
    }
}
