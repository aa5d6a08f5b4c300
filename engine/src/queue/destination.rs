//! One next hop: its messages, its hosts, and what it waits for.

use super::concurrency::Concurrency;
use super::entry::{Entries, NONE, Priority, State};
use super::health::{BREAKS_MAX, Cause, Host, Standing};
use super::lane::List;
use super::link::{Link, Links};
use super::options::Options;
use super::pace::Pace;
use super::places::{Ask, patience};
use super::share::Sharing;
use super::timers::Timed;
use super::trouble::Trouble;
use crate::wire::{NextHopKey, Span, Tick};

/// After we were short of something ourselves, a host is not tried again for so long.
const SHORT_WAIT: Span = Span::millis(100);

/// Names a next hop's queue in one shard. It stays valid while the next hop is installed or its queue holds anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopId(pub(super) u32);

/// Counts of one queue since it was made, in recipients unless said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages that entered.
    pub enqueued: u64,
    /// Messages that left, whatever became of them.
    pub left: u64,
    /// Delivered to the next hop.
    pub delivered: u64,
    /// Refused for good: a notice is owed.
    pub failed: u64,
    /// Attempts of messages that ended with a deferral by their own reply.
    pub deferred: u64,
    /// Attempts of messages whose content could not be read here.
    pub unreadable: u64,
    /// Whose outcome at the next hop is unknown and who are sent again: the bound of window W5 (I-3).
    pub unknown: u64,
    /// Connection attempts.
    pub connects: u64,
    /// Of those, failed.
    pub connect_failures: u64,
}

#[derive(Debug)]
pub(super) struct Hop {
    /// Transactions that the last connection took at once. One that takes many gets many: a batch in one segment costs a
    /// fraction of the same messages one by one on several connections (measured: 1.7 against 6 µs).
    pub window: u32,
    pub key: NextHopKey,
    /// Named by the routes installed last.
    pub pinned: bool,
    /// In use; `false`: the slot is free.
    pub live: bool,
    pub suspended: bool,
    pub lanes: [List; 3],
    /// Messages that some of its hosts cannot take, for others of them.
    pub elsewhere: List,
    /// Of those, messages of other shards.
    pub guests: u32,
    /// Connections woken for one of those.
    pub errands: u32,
    pub sharing: Sharing,
    pub deferred: u32,
    pub settling: u32,
    pub sending: u32,
    pub hosts: Vec<Host>,
    /// Since when it has had no host, while it has none.
    pub hostless: Tick,
    /// Transactions that connections were woken for.
    pub promised: u32,
    /// Connections at most, whatever its answers show.
    pub cap: u32,
    /// It had more when the cap was set, and not yet less.
    pub shrinks: bool,
    /// No other of its connections gives its place to one to another host before.
    pub room_at: Tick,
    /// When a dead host was tried last.
    pub probed: Tick,
    pub limit: Concurrency,
    /// Counts starts over: a dead host is tried once in each.
    pub round: u32,
    pub failures: u16,
    /// In Retry: until then. Else never.
    pub retry_at: Tick,
    pub retried_at: Option<Tick>,
    pub rotation: u32,
    /// Connections woken so far.
    pub feeds: u64,
    /// When its timer is set for, and where it stands in the heap.
    pub timer: Tick,
    pub place: u32,
    pub dirty: bool,
    /// What it asked a place for when it was looked at; what it stands in the line for, and since when.
    pub asks: Option<Ask>,
    pub waits: Option<(Ask, Tick)>,
    pub used: Tick,
    /// When a message left it last, or when the first of those that wait came.
    pub moved: Tick,
    pub totals: Totals,
    pub pace: Pace,
    pub trouble: Trouble,
}

impl Hop {
    pub fn new(key: NextHopKey, options: &Options, now: Tick) -> Self {
        Self {
            key,
            window: 0,
            pinned: true,
            live: true,
            suspended: false,
            lanes: [List::default(); 3],
            elsewhere: List::default(),
            guests: 0,
            errands: 0,
            sharing: Sharing::default(),
            deferred: 0,
            settling: 0,
            sending: 0,
            hosts: Vec::new(),
            hostless: now,
            promised: 0,
            cap: options.connections_per_destination,
            shrinks: false,
            room_at: Tick(0),
            probed: Tick(0),
            limit: Concurrency::new(options.connections_start, options.connections_per_destination),
            round: 1,
            failures: 0,
            retry_at: Tick::NEVER,
            retried_at: None,
            rotation: 0,
            feeds: 0,
            timer: Tick::NEVER,
            place: NONE,
            dirty: false,
            asks: None,
            waits: None,
            used: now,
            moved: now,
            totals: Totals::default(),
            pace: Pace::default(),
            trouble: Trouble::default(),
        }
    }

    /// Messages, waiting or under way, that are one connection's work.
    pub fn work_per_connection(&self, options: &Options) -> u32 {
        options.work_per_connection.max(self.window).max(1)
    }

    /// Messages in its lanes.
    pub fn queued(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.count).sum()
    }

    /// Nothing that waits here has content to give away.
    pub fn is_bare(&self) -> bool {
        self.lanes.iter().chain([&self.elsewhere]).all(List::is_bare)
    }

    /// Messages that a connection could take now.
    pub fn waiting(&self) -> u32 {
        self.queued() + self.sharing.offered
    }

    /// Messages that wait for connections of ours, or are under way on them. Those that are lent are on others'.
    pub fn work(&self) -> u32 {
        self.waiting() + self.sending - self.sharing.lent
    }

    pub fn in_retry(&self) -> bool {
        self.retry_at != Tick::NEVER
    }

    pub fn ready(&self) -> u32 {
        self.hosts.iter().map(|host| host.ready).sum()
    }

    pub fn connecting(&self) -> u32 {
        self.hosts.iter().map(|host| host.connecting).sum()
    }

    /// No more connections may be opened.
    pub fn is_capped(&self) -> bool {
        self.ready() + self.connecting() >= self.cap
    }

    /// A reload has lowered its cap below what is open: its connections finish what they have until enough are closed.
    pub fn is_over_cap(&self) -> bool {
        self.shrinks && self.ready() > self.cap
    }

    /// The connection that has had nothing to do for longest.
    pub fn idle_longest(&self, links: &Links) -> Option<u32> {
        let oldest = self.hosts.iter().map(|host| host.idle.tail).filter(|&tail| tail != NONE);
        oldest.min_by_key(|&index| links[index as usize].idle_since)
    }

    pub fn has_messages(&self) -> bool {
        self.waiting() + self.elsewhere.count + self.deferred + self.settling + self.sending > 0
    }

    pub fn push_back(&mut self, entries: &mut Entries, index: u32) {
        entries[index].state = State::Waiting;
        self.lanes[entries[index].priority() as usize].push_back(entries, index);
    }

    pub fn push_front(&mut self, entries: &mut Entries, index: u32) {
        entries[index].state = State::Waiting;
        self.lanes[entries[index].priority() as usize].push_front(entries, index);
    }

    /// The oldest message of the highest priority.
    pub fn first(&self) -> Option<u32> {
        Priority::ALL.iter().map(|&priority| self.lanes[priority as usize].head).find(|&head| head != NONE)
    }

    pub fn remove_waiting(&mut self, entries: &mut Entries, index: u32) {
        self.lanes[entries[index].priority() as usize].remove(entries, index);
    }

    /// Nobody is left to connect to: its names are not known to the resolver, or no route leads there.
    pub fn has_no_host(&self) -> bool {
        self.hosts.iter().all(|host| host.retired)
    }

    /// The least delay of hosts that are connected and usable, in microseconds.
    pub fn best_delay_us(&self, half_life: Span, now: Tick) -> Option<u64> {
        let connected = self.hosts.iter().filter(|host| host.ready > 0 && host.is_usable());
        connected.map(|host| host.delay_us(half_life, now)).min()
    }

    /// Whether messages may be given to the host: it is usable, and not slow where a better one is connected (F-093).
    pub fn admits(&self, host: &Host, options: &Options, now: Tick) -> bool {
        let tolerance = options.slow_tolerance.as_micros();
        host.is_usable()
            && self.best_delay_us(options.probe_wait, now).is_none_or(|best| {
                host.delay_us(options.probe_wait, now) <= best.saturating_mul(8).saturating_add(tolerance)
            })
    }

    /// Every host was tried in this round and none is left to hope for.
    pub fn all_failed(&self) -> bool {
        let mut hosts = self.hosts.iter().filter(|host| !host.retired).peekable();
        hosts.peek().is_some()
            && hosts.all(|host| host.standing == Standing::Dead && host.connecting == 0 && host.tried == self.round)
    }
}

/// Choices among the hosts, and what failures lead to.
impl Hop {
    /// A dead host whose time has come, while another is connected (F-091).
    pub fn host_to_probe(&self, now: Tick) -> Option<u32> {
        if !self.hosts.iter().any(|host| host.ready > 0 && host.is_usable()) {
            return None;
        }
        let due = |host: &Host| host.standing == Standing::Dead && host.connecting == 0 && host.connect_at <= now;
        // The one that has waited longest, so that each has its turn.
        let all = self.hosts.iter().enumerate().filter(|(_, host)| !host.retired && due(host));
        let (index, _) = all.min_by_key(|(_, host)| host.connect_at)?;
        Some(u32::try_from(index).expect("hosts are few"))
    }

    /// When a busy connection gives its place to a probe of this host, at the cap: one probe after the other.
    pub fn probe_turn(&self, host: &Host, options: &Options) -> Tick {
        let hangs = host.last_cause == Some(Cause::TimedOut);
        host.connect_at.max(self.probed) + patience(options, hangs, self.cap.min(self.ready()))
    }

    pub fn is_probing(&self) -> bool {
        self.hosts.iter().any(|host| host.standing == Standing::Dead && host.connecting > 0)
    }

    /// A good host of the best preference without a connection, while others work side by side: equal hosts share the load
    /// (RFC 5321 §5.1), and losing one loses little.
    pub fn host_to_spread_to(&self, now: Tick) -> Option<u32> {
        if self.work() < 2 || !self.hosts.iter().any(Host::is_unused) || self.ready() == 0 {
            return None;
        }
        let good = |host: &Host| !host.retired && host.standing != Standing::Dead;
        let best = self.hosts.iter().filter(|host| good(host)).map(|host| host.at.preference).min()?;
        let lacks = |host: &Host| host.is_unused() && host.breaks == 0 && host.connect_at <= now;
        let index = self.hosts.iter().position(|host| good(host) && host.at.preference == best && lacks(host))?;
        Some(u32::try_from(index).expect("hosts are few"))
    }

    /// The host for another connection: of the best preference, alive before unknown before dead, the one with the fewest
    /// connections for its speed, the configured order deciding between equals and turning with each attempt (M-087: the
    /// addresses of one name are no equals).
    pub fn candidate(&self, options: &Options, now: Tick) -> Option<u32> {
        let may = |host: &Host| !host.retired && host.connecting < host.attempts_max();
        let open = |host: &Host| may(host) && host.standing != Standing::Dead && host.connect_at <= now;
        let hope = self.hosts.iter().any(open);
        // The dead are tried once a round, when there is no other hope; beside others they are probed.
        let last_resort =
            |host: &Host| may(host) && !hope && host.standing == Standing::Dead && host.tried != self.round;
        let floor = self.preference_floor(now);
        let count = self.hosts.len();
        let open = (0..count).filter(|&index| {
            let host = &self.hosts[index];
            host.at.preference <= floor && (open(host) || last_resort(host))
        });
        let best = open.min_by_key(|&index| {
            let host = &self.hosts[index];
            let held = u64::from(host.ready + host.connecting) * host.delay_us(options.probe_wait, now);
            let turn = (index + count - self.rotation as usize % count) % count;
            let slow = host.ready > 0 && !self.admits(host, options, now);
            (host.at.preference, host.standing == Standing::Dead, slow, held, turn)
        })?;
        Some(u32::try_from(best).expect("hosts are few"))
    }

    /// Hosts of a worse preference than this are not tried while one of this preference is good or just being tried.
    fn preference_floor(&self, now: Tick) -> u16 {
        let good = |host: &&Host| {
            !host.retired && (host.fresh > 0 || (host.standing == Standing::Alive && host.connect_at <= now))
        };
        self.hosts.iter().filter(good).map(|host| host.at.preference).min().unwrap_or(u16::MAX)
    }

    /// Hosts of the best preference that are not dead.
    pub fn equals(&self) -> u32 {
        let good = |host: &&Host| !host.retired && host.standing != Standing::Dead;
        let best = self.hosts.iter().filter(good).map(|host| host.at.preference).min();
        let count = self.hosts.iter().filter(good).filter(|host| Some(host.at.preference) == best).count();
        u32::try_from(count).expect("hosts are few")
    }

    /// An attempt to connect and open a session failed.
    pub fn on_attempt_failed(&mut self, link: &Link, cause: Cause, options: &Options, now: Tick) {
        let round = self.round;
        let host = &mut self.hosts[link.host as usize];
        if cause == Cause::Short {
            host.connect_at = host.connect_at.max(now + SHORT_WAIT);
            return;
        }
        self.totals.connect_failures += 1;
        if host.ready > 0 && host.standing == Standing::Alive && !host.doubted {
            // It works and wants no more connections.
            host.connect_at = now + options.probe_wait;
            self.limit.on_push_back(now);
        } else {
            host.on_dead(options, link.since, now, round);
        }
    }

    /// A session ended for a reason.
    pub fn on_session_failed(&mut self, link: &Link, cause: Cause, options: &Options, now: Tick) {
        let round = self.round;
        let host = &mut self.hosts[link.host as usize];
        match cause {
            Cause::Short => {
                host.connect_at = host.connect_at.max(now + SHORT_WAIT);
                return;
            }
            Cause::PushBack => {
                host.window = (host.window / 2).max(1);
                self.limit.on_push_back(now);
            }
            _ => {
                host.doubted = true;
                host.window = host.window.min(2);
            }
        }
        // Connections opened before the last break tell of the same event.
        if link.answers == 0 && link.since >= host.broke {
            host.breaks += 1;
        }
        host.broke = now;
        let unwilling = matches!(cause, Cause::Mail(_)) && link.answers == 0;
        if unwilling || cause == Cause::TimedOut || (host.breaks >= BREAKS_MAX && host.ready == 0) {
            host.on_dead(options, link.since, now, round);
        }
    }

    /// The next time at which something may be done without anything happening before.
    pub fn next_wait(&self, options: &Options, links: &Links, now: Tick) -> Tick {
        let idle = self.hosts.iter().filter_map(|host| links.get(host.idle.tail as usize));
        let idle = idle.map(|link| link.idle_since + options.idle_wait).min().unwrap_or(Tick::NEVER);
        let used = !self.in_retry() && (self.waiting() > 0 || self.hosts.iter().any(|host| !host.is_unused()));
        let hosts = self.hosts.iter().filter(|host| used && !host.retired && host.connect_at > now);
        let host = hosts.map(|host| host.connect_at).min().unwrap_or(Tick::NEVER);
        let dead = self.hosts.iter().filter(|host| used && !host.retired && host.standing == Standing::Dead);
        let turn = dead.map(|host| self.probe_turn(host, options)).filter(|&turn| turn > now).min();
        let unused = !self.pinned && !self.has_messages();
        let end = if unused { (self.used + options.queue_idle_wait).max(now + Span::seconds(1)) } else { Tick::NEVER };
        let room = if self.room_at > now { self.room_at } else { Tick::NEVER };
        self.retry_at.min(idle).min(host).min(turn.unwrap_or(Tick::NEVER)).min(room).min(end)
    }
}

/// The hops of a shard as members of the timer heap.
impl Timed for Vec<Hop> {
    fn at(&self, id: u32) -> Tick {
        self[id as usize].timer
    }
    fn place(&self, id: u32) -> u32 {
        self[id as usize].place
    }
    fn set_place(&mut self, id: u32, place: u32) {
        self[id as usize].place = place;
    }
}
