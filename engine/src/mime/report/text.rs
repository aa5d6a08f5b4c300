//! The part of a report that people read: what happened, to whom, what can be done; then what administrators need.

use super::{Action, LINE_BYTES_MAX, Recipient, Report, clean};

/// How a kind of report speaks.
pub(super) struct Words {
    pub subject: &'static str,
    opening: &'static str,
}

impl Words {
    pub(super) fn of(action: Action<'_>) -> Self {
        let (subject, opening) = match action {
            Action::Failed => ("Undeliverable", "Your message could not be delivered to:"),
            Action::Delayed { .. } => {
                ("Delayed", "Your message has not been delivered yet; there is no need to send it again. It waits for:")
            }
            Action::Relayed => {
                ("Relayed", "Your message was handed on to a server that does not report on delivery, for:")
            }
            Action::Delivered => ("Delivered", "Your message was delivered to:"),
        };
        Self { subject, opening }
    }
}

impl Report<'_> {
    pub(super) fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        line(Words::of(self.action).opening.as_bytes(), "", &mut out);
        for recipient in self.recipients {
            out.extend_from_slice(b"\r\n");
            address(recipient, "  ", &mut out);
            let tells = matches!(self.action, Action::Failed | Action::Delayed { .. });
            if let Some((what, remedy)) = tells.then(|| explain(recipient)) {
                line(what.as_bytes(), "    ", &mut out);
                line(remedy.as_bytes(), "    ", &mut out);
            }
        }
        if let Action::Delayed { until } = self.action {
            out.extend_from_slice(b"\r\n");
            line(&[b"Delivery is tried on until ", until, b"."].concat(), "", &mut out);
        }
        out.extend_from_slice(b"\r\n\r\nDiagnostic information for administrators:\r\n\r\n");
        line(format!("Generating server: {}", self.reporting).as_bytes(), "", &mut out);
        for recipient in self.recipients {
            out.extend_from_slice(b"\r\n");
            address(recipient, "", &mut out);
            if let Some(remote) = recipient.remote {
                line(&[b"Remote server: ", value(remote)].concat(), "", &mut out);
            }
            let said = recipient.diagnostic.map(|said| [b"Reply: ", value(said)].concat());
            let said = said.unwrap_or_else(|| format!("Status: {}", recipient.status).into_bytes());
            line(&said, "", &mut out);
        }
        out
    }
}

/// What stands behind the type of a typed field.
fn value(field: &[u8]) -> &[u8] {
    let at = memchr::memchr(b';', field).map_or(0, |at| at.saturating_add(1));
    field.get(at..).unwrap_or_default().trim_ascii()
}

fn address(recipient: &Recipient<'_>, indent: &str, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    recipient.mailbox.write(&mut text);
    line(&text, indent, out);
}

/// Appends a line, cleaned; one that is too long goes on in the next.
fn line(text: &[u8], indent: &str, out: &mut Vec<u8>) {
    let most = LINE_BYTES_MAX.saturating_sub(indent.len());
    for piece in text.chunks(most.max(1)) {
        out.extend_from_slice(indent.as_bytes());
        out.extend(piece.iter().map(|&octet| clean(octet)));
        out.extend_from_slice(b"\r\n");
    }
}

/// What a status means to who wrote the message, and what he can do (RFC 3463 §3).
fn explain(recipient: &Recipient<'_>) -> (&'static str, &'static str) {
    let status = recipient.status;
    let said = recipient.diagnostic.unwrap_or_default();
    if recipient.remote.is_none() && memchr::memmem::find(said, b"QUEUE.Admin").is_some() {
        return ("An administrator has taken the message out.", "Ask your administrator.");
    }
    let again = "Send it again later; if that does not help, ask the recipient or your administrator.";
    match (status.subject(), status.detail()) {
        (1, 2) => ("The domain of this address cannot be reached.", "Check what stands behind the @ sign."),
        (1, 7 | 8) => ("The other server does not take your own address.", "Ask your administrator."),
        (1, _) => (
            "There is no mailbox of this address, or it has moved.",
            "Check the address, and ask the recipient for his.",
        ),
        (2, 1) => ("The mailbox takes no messages.", "Ask the recipient in another way."),
        (2, 2) => ("The mailbox is full.", "Ask the recipient to make room, then send it again."),
        (2, 3) | (3, 4) => ("The message is too large.", "Send it with fewer or smaller attachments."),
        (2, _) => ("Something is wrong with the mailbox.", again),
        (3, _) => ("The other mail system could not take the message.", again),
        (4, 6) => ("The message went round in a circle between servers.", "Tell your administrator."),
        (4, 7) => ("The message was not delivered in its time.", again),
        (4, _) => ("The other mail system could not be reached.", again),
        (5, 3) => ("The message has too many recipients.", "Send it to fewer at a time."),
        (5, _) => ("The two mail servers did not understand each other.", "Tell your administrator."),
        (6, _) => ("The message has a form that the other server does not take.", "Send it in another format."),
        (7, _) => (
            "You are not allowed to write to this address, or the message was refused by a rule.",
            "Ask the recipient in another way, or your administrator.",
        ),
        _ => ("The other server did not say why.", again),
    }
}
