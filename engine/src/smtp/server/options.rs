//! What a listener's sessions are told once: names, limits, timers, extensions.

use crate::smtp::{Dialect, Profile};
use crate::wire::{Network, PathLimits, Span};

/// Recipients of a transaction that a front end hands on, whatever `recipients_max` says: the front end has counted them
/// already. A record numbers them by 16 bits.
pub const RECIPIENTS_HANDED_ON_MAX: u32 = 65_534;

/// Which extensions are announced and honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3030 §3; only with `chunking`.
    pub binary_mime: bool,
    /// RFC 1870.
    pub size: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034. The replies carry the codes in any case.
    pub enhanced_status_codes: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            chunking: true,
            binary_mime: false,
            size: true,
            eight_bit_mime: true,
            dsn: true,
            enhanced_status_codes: true,
        }
    }
}

/// How long a session waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTimers {
    /// For a whole command line (RFC 5321 §4.5.3.2.7; M-071). Octets of an unfinished line do not restart it (F-121).
    pub command: Span,
    /// For the next octets of content.
    pub block: Span,
    /// The answer to a command in error is delayed so long, unless a trusted front end sent it (S-021). Zero: it is not.
    pub tarpit: Span,
    /// The greeting is held back so long, to see who talks before it (M-017). Zero: it is not, and nobody looks.
    pub greeting: Span,
    /// For the verdict on a complete message. Beyond it nobody knows what will become of the message, so the connection
    /// closes without a reply (M-049): well under the ten minutes that a client waits (RFC 5321 §4.5.3.2.6).
    pub verdict: Span,
    /// From the greeting to the last command accepted outside a transaction; `None` is no limit.
    pub session: Option<Span>,
    /// Content must arrive at this average from its second minute on, in octets per second; 0 is no limit (F-122).
    pub content_bytes_per_second_min: u32,
}

/// Everything that sessions of one listener share. Built once, shared by `Arc`.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Our fully qualified name: greeting, EHLO, trace.
    pub fqdn: String,
    /// What tells this process from every other, in the greeting (M-081); printable, without spaces. Empty: none.
    pub instance: String,
    /// Which codes and texts.
    pub profile: Profile,
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// Largest message in octets, without trace; 0 is no fixed maximum.
    pub size_max: u64,
    /// Recipients of one transaction, at least 100 (RFC 5321 §4.5.3.1.8), and at most [`RECIPIENTS_HANDED_ON_MAX`].
    pub recipients_max: u32,
    /// Octets of the encoded envelope: a recipient for whom it has no room is one too many (M-033).
    pub envelope_bytes_max: usize,
    /// Commands in error that are answered; the next one is answered by 421 and closes (M-018, S-021).
    pub errors_max: u32,
    /// Whether a good command forgives the errors before it.
    pub errors_in_a_row: bool,
    /// Commands in a row that bring no message nearer (NOOP, RSET, EHLO …) that are answered; then 421 (F-137).
    pub idle_commands_max: u32,
    /// Recipients refused in a row that are answered; then 421 (F-138).
    pub refused_recipients_max: u32,
    /// Messages whose verdict may be owed at one time.
    pub slots_max: u32,
    /// Octets of a command line with CRLF.
    pub command_line_bytes_max: usize,
    /// Octets of a line of content without CRLF (M-053).
    pub text_line_bytes_max: u32,
    /// Octets of a header section.
    pub header_bytes_max: u64,
    /// Fields of a header section.
    pub header_fields_max: u32,
    /// Received fields in it; more is a loop (M-080).
    pub hops_max: u16,
    /// Lengths of paths.
    pub paths: PathLimits,
    /// Clients whose bare LF in the content of DATA becomes CRLF; a bare CR still refuses their messages. It departs from
    /// RFC 5321 §2.3.8, so for everybody else such a message is read to its real end and refused (M-044).
    pub normalize_from: Vec<Network>,
    /// Octets right behind EHLO or DATA, before our reply, close the session (M-112).
    pub strict_pipelining: bool,
    /// Who talks before the greeting is greeted with 554 (M-017).
    pub refuse_early_talkers: bool,
    /// No white space between `FROM:` and `<` (M-021).
    pub strict_blanks: bool,
    /// EHLO takes any printable name without a space (M-005).
    pub odd_ehlo_names: bool,
    /// Our Received field has the form of Exchange (docs/PROFILES.md, "Received fields").
    pub exchange_trace: bool,
    /// Domains without a dot that addresses may have, in lower case, sorted (M-028).
    pub single_label_domains: Vec<String>,
    /// Announced and honoured.
    pub extensions: Extensions,
    /// Waits.
    pub timers: ServerTimers,
}

impl ServerOptions {
    /// The defaults of `profile` for a server named `fqdn`: what a listener's sessions do unless it is told otherwise. The
    /// figures stand here alone (docs/PROFILES.md, "Receiving"); `settings` has them from here.
    pub fn new(profile: Profile, fqdn: &str) -> Self {
        let rfc = Self {
            fqdn: fqdn.to_owned(),
            instance: String::new(),
            profile,
            dialect: Dialect::Smtp,
            size_max: 50 << 20,
            recipients_max: 1_000,
            envelope_bytes_max: 256 << 10,
            errors_max: 20,
            errors_in_a_row: true,
            idle_commands_max: 200,
            refused_recipients_max: 100,
            slots_max: 64,
            command_line_bytes_max: 2_048,
            text_line_bytes_max: 1 << 20,
            header_bytes_max: 64 << 10,
            header_fields_max: 1_000,
            hops_max: 100,
            paths: PathLimits::RFC,
            normalize_from: Vec::new(),
            strict_pipelining: true,
            refuse_early_talkers: false,
            strict_blanks: false,
            odd_ehlo_names: false,
            exchange_trace: false,
            single_label_domains: if fqdn.contains('.') { Vec::new() } else { vec![fqdn.to_ascii_lowercase()] },
            extensions: Extensions::default(),
            timers: ServerTimers {
                command: Span::minutes(5),
                block: Span::minutes(5),
                tarpit: Span::seconds(1),
                greeting: Span::ZERO,
                verdict: Span::minutes(5),
                session: None,
                content_bytes_per_second_min: 0,
            },
        };
        match profile {
            Profile::Rfc => rfc,
            Profile::Exchange => rfc.exchange(),
            Profile::Bench => rfc.bench(),
        }
    }

    /// The values of docs/PROFILES.md, "Receiving".
    fn exchange(self) -> Self {
        Self {
            size_max: 36 << 20,
            recipients_max: 200,
            errors_max: 5,
            errors_in_a_row: false,
            header_bytes_max: 256 << 10,
            header_fields_max: 10_000,
            hops_max: 30,
            paths: PathLimits::EXCHANGE,
            odd_ehlo_names: true,
            exchange_trace: true,
            timers: ServerTimers { tarpit: Span::seconds(5), session: Some(Span::minutes(10)), ..self.timers },
            ..self
        }
    }

    /// As `rfc`, with rates and caps lifted.
    fn bench(self) -> Self {
        Self {
            size_max: 128 << 20,
            recipients_max: 10_000,
            idle_commands_max: 1_000_000,
            refused_recipients_max: 1_000_000,
            header_bytes_max: 256 << 10,
            header_fields_max: 100_000,
            timers: ServerTimers { tarpit: Span::ZERO, ..self.timers },
            ..self
        }
    }
}
