//! Pairs of runs behind a ratio, and what is against them.

use crate::result;
use crate::run;
use loadgen::validity::Validity;

/// Of so many runs that look for a time one may be left out: a share of 4 in 5 must be valid, or the worst are those that are missing.
const VALID_SHARE_MIN: f64 = 0.8;

/// Pairs of the same figure: what it is compared with, and ours.
#[derive(Debug, Default, Clone)]
pub(super) struct Pairs {
    all: Vec<(f64, f64)>,
    against: Vec<String>,
    left_out: Vec<String>,
    tried: usize,
}

impl Pairs {
    /// A pair of CPU times or rates. A run that is not valid is known as well as any; it only proves nothing.
    pub(super) fn add(&mut self, theirs: f64, ours: f64, validities: &[&Validity]) {
        self.tried += 1;
        self.all.push((theirs, ours));
        self.against.extend(validities.iter().flat_map(|validity| why_not(validity)));
    }

    /// A pair of times, which a run that is not valid has none of: then the pair is left out.
    pub(super) fn add_times(&mut self, theirs: Result<f64, String>, ours: Result<f64, String>) {
        self.tried += 1;
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => self.all.push((theirs, ours)),
            (theirs, ours) => {
                let why: Vec<String> = theirs.err().into_iter().chain(ours.err()).collect();
                self.left_out.push(why.join("; "));
            }
        }
    }

    /// Those that count.
    pub(super) fn counted(&self) -> &[(f64, f64)] {
        &self.all
    }

    /// Why the figure proves nothing; `None` when it is valid.
    pub(super) fn invalid(&self) -> Option<String> {
        let too_few = (self.all.len() as f64) < VALID_SHARE_MIN * self.tried as f64;
        let left_out = if too_few { &self.left_out[..] } else { &[] };
        let mut reasons: Vec<&str> = self.against.iter().chain(left_out).map(String::as_str).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let is_valid = reasons.is_empty() && !self.all.is_empty();
        (!is_valid).then(|| format!("NOT VALID: {}", reasons.join("; ")))
    }

    /// `, 1 of 5 left out: …`, or nothing.
    pub(super) fn told_left_out(&self) -> String {
        match self.left_out.len() {
            0 => String::new(),
            count => format!(", {count} of {} left out: {}", self.tried, self.left_out.join("; ")),
        }
    }
}

fn why_not(validity: &Validity) -> Vec<String> {
    match validity.reasons.is_empty() {
        true if !validity.valid => vec!["not measured".to_owned()],
        _ => validity.reasons.clone(),
    }
}

/// A time of a valid run, or why not.
pub(super) fn time(phase: &result::Phase, of: impl Fn(&result::Figures) -> Option<f64>) -> Result<f64, String> {
    let validity = &phase.figures.validity;
    if !validity.valid {
        return Err(why_not(validity).join("; "));
    }
    of(&phase.figures).ok_or_else(|| "nothing was acknowledged".to_owned())
}

/// What `phase` did to mail that no measurement excuses; `None`: nothing.
pub(super) fn broken(id: &str, phase: &result::Phase) -> Option<String> {
    let pairs = &phase.figures.pairs;
    run::breaks_a_promise(phase).then(|| {
        format!(
            "{id}: {} lost, {} altered, {} refused yet delivered, {} unexpected, {} doubled without a reason",
            pairs.lost_for_certain(),
            pairs.content_differs,
            pairs.refused_yet_delivered,
            pairs.unexpected,
            pairs.duplicated.unattributed
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> Result<f64, String> {
        Err("late".into())
    }

    #[test]
    fn one_of_five_pairs_may_be_left_out_and_is_told() {
        let pairs = |invalid: usize| {
            let mut pairs = Pairs::default();
            for run in 0..5 {
                pairs.add_times(Ok(1.0), if run < invalid { late() } else { Ok(2.0) });
            }
            pairs
        };
        assert_eq!((pairs(0).invalid(), pairs(0).told_left_out()), (None, String::new()));
        let one = pairs(1);
        assert_eq!((one.counted().len(), one.invalid()), (4, None));
        assert_eq!(one.told_left_out(), ", 1 of 5 left out: late");
        for invalid in [2, 5] {
            assert_eq!(pairs(invalid).invalid().as_deref(), Some("NOT VALID: late"), "{invalid} of 5");
        }
    }

    #[test]
    fn a_run_that_is_not_valid_makes_its_ratio_invalid() {
        let good = Validity::from_reasons(vec![]);
        let bad = Validity::from_reasons(vec!["the drain did not end".into()]);
        let mut pairs = Pairs::default();
        pairs.add(6.0, 9.0, &[&good]);
        assert_eq!(pairs.invalid(), None);
        pairs.add(6.0, 9.0, &[&good, &bad]);
        assert_eq!((pairs.counted().len(), pairs.invalid().as_deref()), (2, Some("NOT VALID: the drain did not end")));
        let mut pairs = Pairs::default();
        pairs.add(6.0, 9.0, &[&Validity::default()]);
        assert_eq!(pairs.invalid().as_deref(), Some("NOT VALID: not measured"));
    }

    #[test]
    fn what_no_measurement_excuses_is_named() {
        let mut phase = result::Phase::default();
        assert_eq!(broken("T-hop-4k-50", &phase), None);
        phase.figures.pairs.lost = 2;
        let told = broken("T-hop-4k-50", &phase).expect("lost");
        assert!(told.starts_with("T-hop-4k-50: 2 lost"), "{told}");
    }
}
