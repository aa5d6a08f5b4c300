//! From what a server was told to what its machines take.

use crate::settings::{self, Delivery, Listener, ReceivedForm, Role, Settings};
use crate::smtp::Dialect;
use crate::smtp::client::ClientTimers;
use crate::smtp::server::{Extensions, RECIPIENTS_HANDED_ON_MAX, ServerOptions, ServerTimers};
use crate::spool::RECORD_TEXT_BYTES_MAX;

/// The options of a listener's sessions.
pub fn server_options(settings: &Settings, listener: &Listener) -> ServerOptions {
    let receive = &listener.receive;
    let defaults = ServerOptions::new(settings.profile.into(), &settings.server.fqdn);
    // A store in the same process is no loop: only those who pass mail on are told apart (M-081).
    let passes_on = listener.role != Role::MailboxDelivery;
    ServerOptions {
        instance: if passes_on { settings.server.instance.clone() } else { String::new() },
        dialect: match listener.protocol {
            settings::Protocol::Smtp => Dialect::Smtp,
            settings::Protocol::Lmtp => Dialect::Lmtp,
        },
        size_max: receive.size_max,
        recipients_max: receive.recipients_max.min(RECIPIENTS_HANDED_ON_MAX),
        // What is accepted must fit into a record.
        envelope_bytes_max: RECORD_TEXT_BYTES_MAX,
        errors_max: receive.errors_max,
        idle_commands_max: receive.idle_commands_max,
        refused_recipients_max: receive.refused_recipients_max,
        slots_max: receive.in_flight_max,
        header_bytes_max: receive.header_max,
        header_fields_max: receive.header_fields_max,
        hops_max: u16::try_from(receive.hops_max).unwrap_or(u16::MAX),
        refuse_early_talkers: receive.refuse_early_talkers,
        strict_pipelining: receive.strict_pipelining,
        strict_blanks: receive.strict_paths,
        normalize_from: receive.normalize_from.clone(),
        odd_ehlo_names: receive.odd_names,
        exchange_trace: receive.received == ReceivedForm::Exchange,
        extensions: Extensions {
            pipelining: receive.pipelining,
            chunking: receive.chunking,
            size: receive.announce_size,
            eight_bit_mime: receive.eight_bit_mime,
            // Who keeps nothing cannot report later; whoever hands on to him hands on to a host without DSN.
            dsn: receive.dsn && passes_on,
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
        single_label_domains: settings.single_labels(),
        ..defaults
    }
}

/// How long the steps of sessions to next hops and to hubs are waited for (M-069).
pub fn client_timers(delivery: &Delivery) -> ClientTimers {
    ClientTimers {
        greeting: delivery.greeting_wait,
        hello: delivery.command_wait,
        mail: delivery.mail_wait,
        rcpt: delivery.rcpt_wait,
        data: delivery.data_wait,
        block: delivery.block_wait,
        end: delivery.dot_wait,
        quit: delivery.quit_wait,
        session: delivery.session_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Span;

    /// The rows are proved on sessions with these options: a server that is told nothing has no others.
    #[test]
    fn what_a_listener_does_unless_told_otherwise_is_what_sessions_do() {
        for (_, profile) in settings::Profile::NAMES {
            for role in [Role::Hub, Role::Frontend, Role::MailboxDelivery] {
                let settings = Settings::of(*profile);
                let address = ([127, 0, 0, 1], 25).into();
                let receive = settings::Receive::of(*profile, role);
                let listener = Listener { address, role, protocol: settings::Protocol::Smtp, receive };
                let got = server_options(&settings, &listener);
                let mut own = ServerOptions::new((*profile).into(), &settings.server.fqdn);
                // Who offers it promises reports.
                own.extensions.dsn &= role != Role::MailboxDelivery && *profile != settings::Profile::Bench;
                // A hub of profile `exchange` takes more recipients than its front ends; a record has room for so much.
                let recipients_max = if role == Role::Frontend { own.recipients_max } else { got.recipients_max };
                let own = ServerOptions { recipients_max, envelope_bytes_max: RECORD_TEXT_BYTES_MAX, ..own };
                assert_eq!(format!("{got:?}"), format!("{own:?}"), "{profile} {role}");
            }
        }
    }

    #[test]
    fn m_069_every_wait_that_can_be_configured_reaches_the_client() {
        let wait = Span::seconds;
        let mut delivery = Settings::of(settings::Profile::Rfc).delivery;
        let timers = client_timers(&delivery);
        assert_eq!(timers, ClientTimers::default(), "the defaults are those of table 0");
        (delivery.greeting_wait, delivery.command_wait, delivery.mail_wait) = (wait(1), wait(2), wait(3));
        (delivery.rcpt_wait, delivery.data_wait, delivery.block_wait) = (wait(4), wait(5), wait(6));
        (delivery.dot_wait, delivery.quit_wait, delivery.session_max) = (wait(7), wait(8), wait(9));
        let expected = ClientTimers {
            greeting: wait(1),
            hello: wait(2),
            mail: wait(3),
            rcpt: wait(4),
            data: wait(5),
            block: wait(6),
            end: wait(7),
            quit: wait(8),
            session: wait(9),
        };
        assert_eq!(client_timers(&delivery), expected);
    }
}
