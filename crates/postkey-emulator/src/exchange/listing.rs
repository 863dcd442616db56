//! Which messages a list shows, and what of each: `$filter`, `$orderby`, `$search`, `$select`, `$expand`, pages.

use bytes::Bytes;
use serde_json::Value;

use super::{
    filter,
    graph::{Context, list_response, option, page, raw_response},
    json_write::{self, View},
    mailbox::{Mailbox, Recipient, StoredMessage},
    messages::mailbox,
    refusal::Refusal,
};
use crate::{request::ApiResponse, world::World};

/// Graph's page of messages.
const PAGE: usize = 10;
/// `$search` shows no more.
const SEARCH_HITS: usize = 250;

pub(crate) fn view(context: &Context<'_>) -> Result<View, Refusal> {
    let mut view = View::of(context.request, context.allowed.sees_content);
    if let Some(select) = option(context.request, "$select") {
        let names: Vec<String> =
            select.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let known = |name: &str| {
            json_write::MESSAGE_PROPERTIES.iter().any(|property| property.eq_ignore_ascii_case(name))
                || ["attachments", "extensions", "singleValueExtendedProperties", "multiValueExtendedProperties"]
                    .iter()
                    .any(|property| property.eq_ignore_ascii_case(name))
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(no_property(unknown));
        }
        view.select = Some(names);
    }
    if let Some(expand) = option(context.request, "$expand") {
        let name = expand.split(['(', ',']).next().unwrap_or_default().trim();
        let known = ["attachments", "extensions", "singleValueExtendedProperties", "multiValueExtendedProperties"];
        if !known.iter().any(|property| property.eq_ignore_ascii_case(name)) {
            return Err(no_property(name));
        }
        view.attachments = expand.split(',').any(|part| part.trim().to_ascii_lowercase().starts_with("attachments"));
        view.extended = expand
            .split("id eq '")
            .skip(1)
            .filter_map(|rest| rest.split_once('\'').map(|(id, _)| id.to_owned()))
            .collect();
    }
    Ok(view)
}

fn no_property(name: &str) -> Refusal {
    Refusal::new(
        400,
        "RequestBroker--ParseUri",
        format!("Could not find a property named '{name}' on type 'microsoft.graph.message'."),
    )
}

pub(crate) fn selection(view: &View) -> String {
    view.select.as_ref().map_or_else(String::new, |names| format!("({})", names.join(",")))
}

fn matching<'a>(
    mailbox: &'a Mailbox,
    context: &Context<'_>,
    folder: Option<&str>,
    view: &View,
) -> Result<Vec<&'a StoredMessage>, Refusal> {
    let request = context.request;
    let filter = option(request, "$filter").map(filter::parse).transpose()?;
    let order: Vec<(String, bool)> = option(request, "$orderby")
        .map(|order| {
            order
                .split(',')
                .filter_map(|part| {
                    let mut words = part.split_whitespace();
                    let name = words.next()?.to_owned();
                    Some((name, words.next().is_some_and(|word| word.eq_ignore_ascii_case("desc"))))
                })
                .collect()
        })
        .unwrap_or_default();
    let sortable = |name: &str| {
        let first = name.split('/').next().unwrap_or_default();
        json_write::MESSAGE_PROPERTIES.iter().any(|property| property.eq_ignore_ascii_case(first))
    };
    if let Some((unknown, _)) = order.iter().find(|(name, _)| !sortable(name)) {
        return Err(no_property(unknown));
    }
    let search = option(request, "$search").map(|text| text.trim().trim_matches('"').to_lowercase());
    if search.is_some() && (filter.is_some() || !order.is_empty()) {
        // unverified: code and text
        return Err(Refusal::new(
            400,
            "SearchWithFilter",
            "The query parameter '$filter' is not supported with '$search'.",
        ));
    }
    if let Some(filter) = &filter {
        let named = filter.properties();
        let in_step = order
            .iter()
            .enumerate()
            .all(|(index, (name, _))| named.get(index).is_some_and(|property| property.eq_ignore_ascii_case(name)));
        if !in_step {
            return Err(Refusal::new(
                400,
                "InefficientFilter",
                "The restriction or sort order is too complex for this operation.",
            ));
        }
    }
    let beyond_reach = mailbox.well_known_id("recoverableitemsdeletions");
    let mut found: Vec<&StoredMessage> = mailbox
        .messages
        .iter()
        .filter(|message| match folder {
            Some(folder) => message.folder == folder,
            // The whole mailbox does not reach behind Deleted Items.
            None => message.folder != beyond_reach,
        })
        .filter(|message| filter.as_ref().is_none_or(|filter| filter.admits(message, view)))
        .filter(|message| search.as_ref().is_none_or(|text| is_found(message, text)))
        .collect();
    found.reverse(); // newest first
    if search.is_some() {
        found.sort_by_key(|message| std::cmp::Reverse(message.sent));
        found.truncate(SEARCH_HITS);
    } else if order.is_empty() {
        found.sort_by_key(|message| std::cmp::Reverse(message.received));
    }
    for (property, descending) in order.iter().rev() {
        found.sort_by(|left, right| {
            let key = |message: &StoredMessage| filter::value(message, view, property).to_string().to_lowercase();
            let order = key(left).cmp(&key(right));
            if *descending { order.reverse() } else { order }
        });
    }
    Ok(found)
}

/// A little KQL: words, or `property:word`.
fn is_found(message: &StoredMessage, text: &str) -> bool {
    let letter = &message.letter;
    let people = |lists: &[&Vec<Recipient>]| {
        lists
            .iter()
            .flat_map(|list| list.iter())
            .map(|person| format!("{} {} ", person.name.as_deref().unwrap_or_default(), person.address))
            .collect::<String>()
    };
    let from: String = letter
        .from
        .iter()
        .map(|person| format!("{} {}", person.name.as_deref().unwrap_or_default(), person.address))
        .collect();
    let (property, wanted) = text.split_once(':').unwrap_or(("", text));
    let place = match property {
        "subject" => letter.subject.clone(),
        "body" => letter.body.content.clone(),
        "from" => from,
        "to" => people(&[&letter.to]),
        "cc" => people(&[&letter.cc]),
        "bcc" => people(&[&letter.bcc]),
        "recipients" => people(&[&letter.to, &letter.cc, &letter.bcc]),
        "participants" => from + &people(&[&letter.to, &letter.cc, &letter.bcc]),
        "attachment" => letter.attachments.iter().map(|attached| attached.name.as_str()).collect::<Vec<_>>().join(" "),
        _ => format!("{from} {} {}", letter.subject, letter.body.content),
    };
    let place = place.to_lowercase();
    wanted.split_whitespace().all(|word| place.contains(word.trim_matches('"')))
}

pub(crate) fn list(world: &World, context: &Context<'_>, folder: Option<&str>) -> Result<ApiResponse, Refusal> {
    let view = view(context)?;
    let page = page(context.request, PAGE)?;
    let mailbox = mailbox(world, context)?;
    let found = matching(mailbox, context, folder, &view)?;
    let items = found
        .iter()
        .skip(page.skip)
        .take(page.top)
        .map(|message| Value::Object(json_write::message(mailbox, message, &view)))
        .collect();
    let rest = match folder {
        Some(folder) => format!("mailFolders('{folder}')/messages{}", selection(&view)),
        None => format!("messages{}", selection(&view)),
    };
    let mut answer = list_response(context, &rest, items, found.len(), &page);
    answer.headers.extend(view.applied());
    Ok(answer)
}

pub(crate) fn count(world: &World, context: &Context<'_>, folder: Option<&str>) -> Result<ApiResponse, Refusal> {
    let found = matching(mailbox(world, context)?, context, folder, &view(context)?)?.len();
    Ok(raw_response("text/plain", Bytes::from(found.to_string())))
}
