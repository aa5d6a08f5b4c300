//! What a person picks out of a list: by a filter, in an order. One table of properties for each kind of thing says what can
//! be asked for.
//!
//! A filter is `Property -op 'value'`, joined by `-and`; operators are `-eq -ne -gt -ge -lt -le -like`, where `*` in the value
//! of `-like` stands for anything. Names and texts are compared without regard to case (docs/PROFILES.md).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::cmp::Ordering;
use std::fmt;

/// What a property holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A count or a rate.
    Number(f64),
    /// A moment.
    Time(Timestamp),
}

/// What a property can hold, and so what it can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// A count or a rate.
    Number,
    /// A moment: `2026-01-31T12:00:00Z`, with `Z` or without it UTC.
    Time,
}

/// One property of a `T`.
pub struct Property<T: 'static> {
    /// Its name, as the documents of the product have it whose tools these follow.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Reads it; `None`: there is none just now.
    pub get: fn(&T) -> Option<Value>,
}

/// Which of a list are meant.
pub struct Filter<T: 'static>(Vec<Term<T>>);

struct Term<T: 'static> {
    property: &'static Property<T>,
    operator: Operator,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Like,
}

const OPERATORS: [(&str, Operator); 7] = [
    ("-eq", Operator::Eq),
    ("-ne", Operator::Ne),
    ("-gt", Operator::Gt),
    ("-ge", Operator::Ge),
    ("-lt", Operator::Lt),
    ("-le", Operator::Le),
    ("-like", Operator::Like),
];

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) if number.fract() == 0.0 => write!(f, "{number:.0}"),
            Value::Number(number) => write!(f, "{number:.2}"),
            Value::Time(time) => write!(f, "{time:.0}"),
        }
    }
}

impl Value {
    /// As JSON has it.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 2f64.powi(53) =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number of 53 bits")]
                (*number as i64).into()
            }
            Value::Number(number) => (*number).into(),
            other => other.to_string().into(),
        }
    }

    /// How it stands to another of its kind; texts without regard to case.
    fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Text(one), Value::Text(other)) => Some(one.to_lowercase().cmp(&other.to_lowercase())),
            (Value::Number(one), Value::Number(other)) => one.partial_cmp(other),
            (Value::Time(one), Value::Time(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }
}

/// The property of this name.
fn find<T>(properties: &'static [Property<T>], name: &str) -> Result<&'static Property<T>, String> {
    properties.iter().find(|property| property.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<_> = properties.iter().map(|property| property.name).collect();
        format!("{name} is no property; say one of {}", names.join(", "))
    })
}

impl<T> Filter<T> {
    /// Everything.
    pub fn all() -> Self {
        Filter(Vec::new())
    }

    /// What `text` says.
    ///
    /// # Errors
    /// One line: which column, what is wrong there, what would be right.
    pub fn parse(text: &str, properties: &'static [Property<T>]) -> Result<Self, String> {
        let mut words = Words { text, at: 0 };
        let mut terms = Vec::new();
        loop {
            terms.push(words.term(properties)?);
            let place = words.place();
            match words.next()? {
                None => return Ok(Filter(terms)),
                Some(and) if and.eq_ignore_ascii_case("-and") => {}
                Some(word) => {
                    return Err(format!(
                        "column {place}: {word} stands where -and should; terms are joined by -and alone"
                    ));
                }
            }
        }
    }

    /// Whether it is among those that are meant.
    pub fn takes(&self, item: &T) -> bool {
        self.0.iter().all(|term| term.holds((term.property.get)(item)))
    }
}

impl<T> Term<T> {
    fn holds(&self, value: Option<Value>) -> bool {
        let Some(value) = value else { return self.operator == Operator::Ne };
        if self.operator == Operator::Like {
            return matches!(&self.value, Value::Text(pattern) if like(&value.to_string().to_lowercase(), pattern));
        }
        let Some(order) = value.order(&self.value) else { return false };
        match self.operator {
            Operator::Eq => order.is_eq(),
            Operator::Ne => order.is_ne(),
            Operator::Gt => order.is_gt(),
            Operator::Ge => order.is_ge(),
            Operator::Lt => order.is_lt(),
            Operator::Le => order.is_le(),
            Operator::Like => unreachable!("returned above"),
        }
    }
}

/// Whether `text` is as `pattern` says, both in lower case; `*` stands for anything.
pub fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A filter's words, one after the other.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// The column of the next word, from 1.
    fn place(&mut self) -> usize {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[..self.at].chars().count() + 1
    }

    /// The next word: bare, or between quotes, in which a doubled one stands for itself. Quotes are kept off.
    fn next(&mut self) -> Result<Option<std::borrow::Cow<'a, str>>, String> {
        let place = self.place();
        let rest = &self.text[self.at..];
        let Some(quote) = rest.chars().next() else { return Ok(None) };
        if quote != '\'' && quote != '"' {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            self.at += end;
            return Ok(Some(rest[..end].into()));
        }
        let (mut word, mut from) = (String::new(), 1);
        loop {
            let Some(end) = rest[from..].find(quote) else {
                return Err(format!("column {place}: this {quote} has no end; close it"));
            };
            word.push_str(&rest[from..from + end]);
            from += end + 1;
            if !rest[from..].starts_with(quote) {
                self.at += from;
                return Ok(Some(word.into()));
            }
            word.push(quote);
            from += 1;
        }
    }

    fn expect(&mut self, what: &str) -> Result<(usize, std::borrow::Cow<'a, str>), String> {
        let place = self.place();
        let word = self
            .next()?
            .ok_or_else(|| format!("column {place}: {what} is missing; a term reads Property -eq 'value'"))?;
        Ok((place, word))
    }

    fn term<T>(&mut self, properties: &'static [Property<T>]) -> Result<Term<T>, String> {
        let (place, name) = self.expect("a property")?;
        let property = find(properties, &name).map_err(|error| format!("column {place}: {error}"))?;
        let (place, word) = self.expect("an operator")?;
        let operator =
            OPERATORS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, operator)| *operator);
        let names = || OPERATORS.map(|(name, _)| name).join(" ");
        let operator =
            operator.ok_or_else(|| format!("column {place}: {word} is no operator; say one of {}", names()))?;
        let (place, word) = self.expect("a value")?;
        let value = value(property.kind, operator, &word).map_err(|error| format!("column {place}: {error}"))?;
        Ok(Term { property, operator, value })
    }
}

fn value(kind: Kind, operator: Operator, word: &str) -> Result<Value, String> {
    let shown = word.escape_debug();
    match kind {
        _ if operator == Operator::Like => Ok(Value::Text(word.to_lowercase())),
        Kind::Text => Ok(Value::Text(word.into())),
        Kind::Word(words) if words.iter().any(|known| known.eq_ignore_ascii_case(word)) => Ok(Value::Text(word.into())),
        Kind::Word(words) => Err(format!("'{shown}' is none of {}", words.join(", "))),
        Kind::Number => {
            let number = word.parse().ok().filter(|number: &f64| number.is_finite());
            number.map(Value::Number).ok_or_else(|| format!("'{shown}' is no number; write '12' or '0.5'"))
        }
        Kind::Time => {
            let utc = || word.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
            let time = word.parse::<Timestamp>().ok().or_else(utc);
            time.map(Value::Time).ok_or_else(|| format!("'{shown}' is no time; write '2026-01-31T12:00:00Z'"))
        }
    }
}

/// In which order a list is told: by these properties, one after the other.
pub struct Sort<T: 'static>(Vec<(&'static Property<T>, bool)>);

impl<T> Sort<T> {
    /// What `text` says: `+Property,-Property`, rising and falling.
    ///
    /// # Errors
    /// One line: a name is no property's.
    pub fn parse(text: &str, properties: &'static [Property<T>]) -> Result<Self, String> {
        let keys = text.split(',').map(|key| {
            let key = key.trim();
            let falls = key.starts_with('-');
            Ok((find(properties, key.trim_start_matches(['+', '-']))?, falls))
        });
        keys.collect::<Result<_, String>>().map(Sort)
    }

    /// Puts `items` in that order; equals stay as they are, and who has no such property comes first.
    pub fn sort(&self, items: &mut [T]) {
        items.sort_by(|one, other| {
            let orders = self.0.iter().map(|(property, falls)| {
                let order = match ((property.get)(one), (property.get)(other)) {
                    (Some(one), Some(other)) => one.order(&other).unwrap_or(Ordering::Equal),
                    (one, other) => one.is_some().cmp(&other.is_some()),
                };
                if *falls { order.reverse() } else { order }
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
    }
}

/// All properties of `item` as a JSON object; `null` where there is none.
pub fn json<T>(item: &T, properties: &[Property<T>]) -> serde_json::Value {
    let values = properties.iter().map(|property| {
        let value = (property.get)(item).map_or(serde_json::Value::Null, |value| value.json());
        (property.name.to_owned(), value)
    });
    serde_json::Value::Object(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Thing {
        name: &'static str,
        size: f64,
        born: Option<&'static str>,
    }

    const PROPERTIES: &[Property<Thing>] = &[
        Property { name: "Name", kind: Kind::Text, get: |thing| Some(Value::Text(thing.name.into())) },
        Property {
            name: "Shade",
            kind: Kind::Word(&["Dark", "Light"]),
            get: |thing| Some(Value::Text(if thing.size > 2.0 { "Dark" } else { "Light" }.into())),
        },
        Property { name: "Size", kind: Kind::Number, get: |thing| Some(Value::Number(thing.size)) },
        Property {
            name: "Born",
            kind: Kind::Time,
            get: |thing| thing.born.map(|born| Value::Time(born.parse().expect("a time"))),
        },
    ];

    fn things() -> [Thing; 4] {
        let thing = |name, size, born| Thing { name, size, born };
        [
            thing("it's", 1.0, Some("2026-01-01T00:00:00Z")),
            thing("Two Words", 2.5, None),
            thing("a.test", 3.0, Some("2026-01-02T00:00:00Z")),
            thing("b.test", 4.0, None),
        ]
    }

    fn taken(filter: &str) -> Vec<&'static str> {
        let filter = Filter::parse(filter, PROPERTIES).expect("a filter");
        things().iter().filter(|thing| filter.takes(thing)).map(|thing| thing.name).collect()
    }

    #[test]
    fn terms_are_joined_and_compared_by_what_the_property_holds() {
        assert_eq!(taken("Size -gt '1' -and size -le 3"), ["Two Words", "a.test"]);
        assert_eq!(taken("NAME -like '*.TEST'"), ["a.test", "b.test"]);
        assert_eq!(taken("name -eq 'IT''S'"), ["it's"]);
        assert_eq!(taken("name -eq \"two words\""), ["Two Words"]);
        assert_eq!(taken("Shade -eq dark -and Name -ne 'a.test'"), ["Two Words", "b.test"]);
        assert_eq!(taken("Born -ge 2026-01-02"), ["a.test"]);
        assert_eq!(taken("Born -lt '2026-01-01T00:00:01'"), ["it's"]);
        assert_eq!(
            taken("Born -ne '2026-01-01T00:00:00Z'"),
            ["Two Words", "a.test", "b.test"],
            "who has none is not it"
        );
        assert_eq!(taken("Size -like '2*'"), ["Two Words"]);
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_told_with_its_column() {
        for (filter, told) in [
            ("", "column 1: a property is missing"),
            ("Colour -eq 'x'", "column 1: Colour is no property; say one of Name, Shade, Size, Born"),
            ("Name = x", "column 6: = is no operator; say one of -eq -ne"),
            ("Name", "column 5: an operator is missing"),
            ("Name -eq", "column 9: a value is missing"),
            ("Name -eq 'x", "column 10: this ' has no end; close it"),
            ("Size -gt 'many'", "column 10: 'many' is no number"),
            ("Size -gt NaN", "column 10: 'NaN' is no number"),
            ("Born -gt 'soon'", "column 10: 'soon' is no time; write '2026-01-31T12:00:00Z'"),
            ("Shade -eq 'grey'", "column 11: 'grey' is none of Dark, Light"),
            ("Ñame -eq 1 -or Size -eq 1", "column 1: Ñame is no property"),
            ("Name -eq 'Ñ' -or Size -eq 1", "column 14: -or stands where -and should"),
            ("Name -eq 'x' -and", "column 18: a property is missing"),
        ] {
            let error = Filter::parse(filter, PROPERTIES).err().expect(filter);
            assert!(error.starts_with(told), "{filter}: {error}");
        }
    }

    #[test]
    fn a_list_is_sorted_by_several_properties() {
        let mut sorted = things();
        Sort::parse("Shade,-Size", PROPERTIES).expect("keys").sort(&mut sorted);
        assert_eq!(sorted.each_ref().map(|thing| thing.name), ["b.test", "a.test", "Two Words", "it's"]);
        Sort::parse("+Born", PROPERTIES).expect("keys").sort(&mut sorted);
        assert_eq!(
            sorted.each_ref().map(|thing| thing.name),
            ["b.test", "Two Words", "it's", "a.test"],
            "who has none comes first"
        );
        assert!(Sort::parse("+Colour", PROPERTIES).is_err());
    }

    #[test]
    fn a_thing_is_told_as_json() {
        let text = json(&things()[1], PROPERTIES).to_string();
        assert_eq!(text, r#"{"Born":null,"Name":"Two Words","Shade":"Dark","Size":2.5}"#);
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_a_filter_or_a_line_that_says_why_not(text in "[ a-zA-Z0-9'\"*=-]{0,40}|\\PC{0,40}") {
            if let Err(error) = Filter::parse(&text, PROPERTIES) {
                prop_assert!(error.starts_with("column "), "{error}");
            }
        }

        #[test]
        fn like_is_what_a_naive_search_says(text in "[ab]{0,8}", pattern in "[ab*]{0,6}") {
            fn naive(text: &[u8], pattern: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| naive(&text[at..], rest)),
                    Some((letter, rest)) => text.first() == Some(letter) && naive(&text[1..], rest),
                }
            }
            prop_assert_eq!(like(&text, &pattern), naive(text.as_bytes(), pattern.as_bytes()));
        }
    }
}
