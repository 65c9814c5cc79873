//! "Did you mean …?"

/// Names longer than this are not compared: the distance costs the product of both lengths.
const COMPARED_BYTES_MAX: usize = 40;

/// A hint naming the candidate that looks most like `word`, if one does.
pub(super) fn did_you_mean<S: AsRef<str>>(word: &str, candidates: &[S]) -> Option<String> {
    if word.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let near = candidates.iter().map(AsRef::as_ref).filter(|candidate| candidate.len() <= COMPARED_BYTES_MAX);
    let (distance, best) = near
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let tolerated = (word.chars().count() / 3).max(1);
    (distance <= tolerated).then(|| format!("did you mean `{best}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let names = ["masquerade", "forward"];
        assert_eq!(did_you_mean("maskerade", &names).as_deref(), Some("did you mean `masquerade`?"));
        assert_eq!(did_you_mean("foward", &names).as_deref(), Some("did you mean `forward`?"));
        assert_eq!(did_you_mean("nat", &names), None);
        assert_eq!(did_you_mean(&"x".repeat(1_000), &names), None);
    }
}
