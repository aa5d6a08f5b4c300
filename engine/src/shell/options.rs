//! From what a server was told to what its machines take.

use crate::settings::{self, Listener, Role, Settings};
use crate::smtp::server::{Extensions, ServerOptions, ServerTimers};
use crate::smtp::{Dialect, Profile};
use crate::spool::RECORD_TEXT_BYTES_MAX;

/// The options of a listener's sessions.
pub fn server_options(settings: &Settings, listener: &Listener) -> ServerOptions {
    let receive = &listener.receive;
    let profile = match settings.profile {
        settings::Profile::Exchange => Profile::Exchange,
        settings::Profile::Rfc => Profile::Rfc,
        settings::Profile::Bench => Profile::Bench,
    };
    let defaults = ServerOptions::new(profile, &settings.server.fqdn);
    // A store in the same process is no loop: only those who pass mail on are told apart (M-081).
    let passes_on = listener.role != Role::MailboxDelivery;
    ServerOptions {
        instance: if passes_on { settings.server.instance.clone() } else { String::new() },
        dialect: match listener.protocol {
            settings::Protocol::Smtp => Dialect::Smtp,
            settings::Protocol::Lmtp => Dialect::Lmtp,
        },
        size_max: receive.size_max,
        // A record numbers its recipients by 16 bits.
        recipients_max: receive.recipients_max.min(65_534),
        // What is accepted must fit into a record.
        envelope_bytes_max: RECORD_TEXT_BYTES_MAX,
        errors_max: receive.errors_max,
        slots_max: receive.in_flight_max,
        header_bytes_max: receive.header_max,
        hops_max: u16::try_from(receive.hops_max).unwrap_or(u16::MAX),
        refuse_early_talkers: receive.refuse_early_talkers,
        strict_blanks: receive.strict_paths,
        odd_ehlo_names: receive.odd_names,
        extensions: Extensions {
            pipelining: receive.pipelining,
            chunking: receive.chunking,
            size: receive.announce_size,
            eight_bit_mime: receive.eight_bit_mime,
            enhanced_status_codes: receive.enhanced_status_codes,
            ..defaults.extensions
        },
        timers: ServerTimers {
            command: receive.command_wait,
            block: receive.data_wait,
            tarpit: receive.tarpit_wait,
            greeting: receive.greeting_wait,
            verdict: defaults.timers.verdict,
            session: receive.session_max,
            content_bytes_per_second_min: u32::try_from(receive.rate_min.unwrap_or(0)).unwrap_or(u32::MAX),
        },
        ..defaults
    }
}
