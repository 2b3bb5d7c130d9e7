//! All mistakes of a file at once, each at its place.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::yaml::Placed;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Farm {
    name: Placed<String>,
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default)]
    sounds: BTreeMap<String, Vec<String>>,
    season: Option<Season>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    crop: String,
    #[serde(default)]
    rows: u8,
    wet: Option<bool>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Season {
    Summer,
    Winter,
}

#[track_caller]
fn check_mistakes(text: &str, expected: &[&str]) {
    let (_, mistakes) = read_all::<Farm>(0, "farm.yml", text);
    let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(mistakes, expected);
}

#[test]
fn a_right_file_is_read_with_its_places() {
    let text = "fields:\n  - &a {crop: rye, rows: 3}\n  - {<<: *a, wet: true}\nname:  Hill\nsounds: {cow: [moo]}\nseason: winter\n";
    let (farm, mistakes) = read_all::<Farm>(7, "farm.yml", text);
    let farm = farm.unwrap();
    assert_eq!(mistakes, []);
    assert_eq!(farm.name.at(), Place { file: 7, line: 4, column: 8 });
    assert_eq!(farm.name.value, "Hill");
    assert_eq!((farm.fields[1].crop.as_str(), farm.fields[1].rows), ("rye", 3));
    assert_eq!(farm.fields[1].wet, Some(true));
    assert_eq!(farm.sounds["cow"], ["moo"]);
    assert_eq!(farm.season, Some(Season::Winter));
}

#[test]
fn all_mistakes_are_told_at_once() {
    check_mistakes(
        "nam: Hill\nfields:\n  - {crop: 5, rows: 300}\n  - {corp: rye}\n  - {crop: rye, wet: yes}\nsounds: {cow: moo}\nseason: sumer\n",
        &[
            "farm.yml:1:1: unknown key `nam`; did you mean `name`? (known: name, fields, sounds, season)",
            "farm.yml:3:12: expected a string, found a number; put it in quotes",
            "farm.yml:3:21: invalid value: integer `300`, expected u8",
            "farm.yml:4:6: unknown key `corp`; did you mean `crop`? (known: crop, rows, wet)",
            "farm.yml:4:5: key `crop` is missing",
            "farm.yml:5:22: expected true or false, found the text `yes`",
            "farm.yml:6:15: expected a list, found the text `moo`",
            "farm.yml:7:9: unknown word `sumer`; did you mean `summer`? (known: summer, winter)",
            "farm.yml:1:1: key `name` is missing",
        ],
    );
}

#[test]
fn what_is_right_beside_a_mistake_is_read() {
    let (farm, mistakes) =
        read_all::<Farm>(0, "farm.yml", "name: x\nfields: [{crop: rye, rows: many}, {rows: 1}]\n");
    assert_eq!(mistakes.len(), 2);
    let fields = farm.unwrap().fields;
    assert_eq!((fields.len(), fields[0].crop.as_str(), fields[0].rows), (1, "rye", 0));
}

#[test]
fn what_is_not_there_and_what_is_another_thing_is_said() {
    check_mistakes("name: x\nfields:\n", &["farm.yml:2:7: expected a list, found nothing"]);
    check_mistakes(
        "name: x\nfields: [[rye, 1]]\n",
        &["farm.yml:2:10: expected keys with values, found sequence"],
    );
    check_mistakes("[a]\n", &["farm.yml:1:1: expected keys with values, found sequence"]);
    check_mistakes("name: x\nname: y\n", &["farm.yml:2:1: duplicate mapping key: name"]);
}
