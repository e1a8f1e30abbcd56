//! Words for messages.

/// How the text would be written as a list. A command line has several words; what a shell is for stays one.
pub(in crate::file) fn as_list(text: &str) -> String {
    let short = shorten(text);
    let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
    if words.len() < 2 || short != text {
        return format!("a list of one is written [\"{short}\"]");
    }
    if text.contains(|it| "|&;<>`\\\"'*?~".contains(it)) {
        return format!("a list of one is written [{text:?}], a command of a shell [sh, -c, {text:?}]");
    }
    format!("a list of its words is written [{}], a list of one [{text:?}]", words.join(", "))
}

/// Cuts text to what fits on a line of a message.
pub(in crate::file) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() > 60 || line.len() < text.len() {
        let short: String = line.chars().take(60).collect();
        format!("{short}…")
    } else {
        line.to_owned()
    }
}

/// The one of `words` that `word` was probably meant to be.
pub(in crate::file) fn suggest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let key = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let word = key(word);
    words
        .into_iter()
        .map(|it| (strsim::damerau_levenshtein(&word, &key(it)), it))
        .filter(|(distance, it)| *distance <= 1 + it.len().max(word.len()) / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
}
