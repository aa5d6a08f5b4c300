//! An independent, strict reading of a stream of the properties' commands and bodies: the plainest parser that can say how
//! many replies it gets and which messages it holds. It sees the stream as a whole and knows nothing of the session.

/// Largest message of the properties' sessions.
const SIZE_MAX: usize = 500;

/// A message as a strict reading finds it: reverse-path and recipients in capitals, and the content.
pub(super) type Found = (String, Vec<String>, Vec<u8>);

/// How many replies `stream` must get, and the messages in it.
pub(super) fn reference(stream: &[u8]) -> (usize, Vec<Found>) {
    read(Reading { stream, ..Reading::default() })
}

/// The same where LMTP is spoken.
pub(super) fn lmtp_reference(stream: &[u8]) -> (usize, Vec<Found>) {
    read(Reading { stream, lmtp: true, ..Reading::default() })
}

fn read(mut reading: Reading<'_>) -> (usize, Vec<Found>) {
    while let Some(line) = reading.line() {
        reading.replies += 1;
        let go_on = match line.strip_prefix("BDAT ") {
            Some(argument) => reading.chunk(argument),
            None => reading.command(&line),
        };
        if !go_on {
            return (reading.replies, reading.messages);
        }
    }
    // A bare LF is told at once, without its CRLF (M-020).
    (reading.replies + usize::from(reading.stream[reading.at..].contains(&b'\n')), reading.messages)
}

#[derive(Default)]
struct Reading<'s> {
    stream: &'s [u8],
    at: usize,
    replies: usize,
    messages: Vec<Found>,
    lmtp: bool,
    greeted: bool,
    extended: bool,
    mail: Option<String>,
    recipients: Vec<String>,
    chunks: Option<Vec<u8>>,
    failed: bool,
}

impl Reading<'_> {
    fn line(&mut self) -> Option<String> {
        let rest = &self.stream[self.at..];
        let end = rest.windows(2).position(|octets| octets == b"\r\n")?;
        self.at += end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).to_ascii_uppercase())
    }

    fn reset(&mut self) {
        (self.mail, self.chunks, self.failed) = (None, None, false);
        self.recipients.clear();
    }

    /// The transaction is over, with this content if it is good.
    fn end(&mut self, content: Option<Vec<u8>>) {
        let found = (self.mail.take().unwrap_or_default(), std::mem::take(&mut self.recipients));
        self.messages.extend(content.map(|content| (found.0, found.1, content)));
        self.reset();
    }

    fn greeted(&mut self) {
        self.greeted = true;
        self.reset();
    }

    /// A command but BDAT. False when the stream ends inside it.
    fn command(&mut self, line: &str) -> bool {
        match line {
            "EHLO C.TEST" | "HELO C.TEST" if !self.lmtp => {
                self.extended = line.starts_with('E');
                self.greeted();
            }
            "LHLO C.TEST" if self.lmtp => {
                self.extended = true;
                self.greeted();
            }
            "RSET" => self.reset(),
            "MAIL FROM:<A@A.TEST>" if self.mail.is_none() && self.greeted => self.mail = Some("A@A.TEST".into()),
            "MAIL FROM:<> SIZE=9" if self.mail.is_none() && self.extended => self.mail = Some("<>".into()),
            "RCPT TO:<B@B.TEST>" | "RCPT TO:<C@B.TEST>" | "RCPT TO:<B@[192.0.2.1]>"
                if self.mail.is_some() && self.chunks.is_none() && !self.failed =>
            {
                self.recipients.push(line[9..line.len() - 1].to_owned());
            }
            "DATA" if !self.recipients.is_empty() && self.chunks.is_some() => self.failed = true,
            "DATA" if !self.recipients.is_empty() && !self.failed => return self.data(),
            _ => {}
        }
        true
    }

    fn data(&mut self) -> bool {
        let framed = [b"\r\n", &self.stream[self.at..]].concat();
        let Some(end) = framed.windows(5).position(|octets| octets == b"\r\n.\r\n") else { return false };
        let body = String::from_utf8_lossy(&framed[..end + 2]).replace("\r\n.", "\r\n");
        // The header ends before the first line that is no field (M-204); none of these lines begins with a blank.
        let nul_in_header =
            body.split("\r\n").skip(1).take_while(|line| line.contains(':')).any(|line| line.contains('\0'));
        self.at += end + 3;
        self.replies += if self.lmtp { self.recipients.len() } else { 1 };
        let content = body.as_bytes()[2..].to_vec();
        let good = is_text(&content) && !nul_in_header;
        self.end(good.then_some(content));
        true
    }

    /// BDAT and its octets. False, and no reply, when the stream ends inside it.
    fn chunk(&mut self, argument: &str) -> bool {
        let (size, last) = argument.split_once(' ').map_or((argument, false), |(size, _)| (size, true));
        let size: usize = size.parse().expect("a size");
        let Some(octets) = self.stream[self.at..].get(..size) else {
            self.replies -= 1;
            return false;
        };
        self.at += size;
        if self.recipients.is_empty() || self.failed || !self.extended {
            // One reply per accepted recipient, and there is none.
            self.replies -= usize::from(self.lmtp && last && self.recipients.is_empty());
            return true;
        }
        if self.lmtp && last {
            self.replies += self.recipients.len() - 1;
        }
        let no_room = self.chunks.is_none() && size == 452;
        let body = self.chunks.get_or_insert_default();
        body.extend_from_slice(octets);
        // A CR at the end of a chunk may be half of a line's end.
        let judged = if last { &body[..] } else { body.strip_suffix(b"\r").unwrap_or(body) };
        let good = is_text(judged) && body.len() <= SIZE_MAX && !no_room;
        if last {
            let body = std::mem::take(body);
            self.end(good.then_some(body));
        } else if !good {
            self.failed = true;
        }
        true
    }
}

fn is_text(body: &[u8]) -> bool {
    let lines = String::from_utf8_lossy(body).replace("\r\n", "");
    !lines.contains('\r') && !lines.contains('\n') && body.len() <= SIZE_MAX
}
