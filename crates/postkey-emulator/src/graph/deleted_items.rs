//! Deleted applications: listed, restored or deleted for good within 30 days.

use uuid::Uuid;

use super::{
    Call,
    application_json::APPLICATION,
    applications::{deleted_json, restorable, restored},
    errors::{Answer, Refusal, no_content},
    odata::{self, Options},
};

fn one(call: &Call<'_>) -> Result<usize, Refusal> {
    let wanted = call.segment(2);
    let id = Uuid::try_parse(wanted).ok();
    call.directory()
        .deleted_applications
        .iter()
        .position(|(deleted, app)| Some(app.id) == id && restorable(*deleted, call.now))
        .ok_or_else(|| Refusal::not_found(wanted))
}

fn one_to_change(call: &Call<'_>) -> Result<usize, Refusal> {
    let at = one(call)?;
    call.must_reach(&call.directory().deleted_applications[at].1.owners)?;
    Ok(at)
}

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &APPLICATION)?;
    let items = call
        .directory()
        .deleted_applications
        .iter()
        .filter(|(deleted, _)| restorable(*deleted, call.now))
        .map(|(deleted, app)| deleted_json(call, *deleted, app))
        .collect();
    odata::collection(call.request, &APPLICATION, "applications", &options, items)
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &APPLICATION)?;
    let (deleted, app) = &call.directory().deleted_applications[one(call)?];
    let item = deleted_json(call, *deleted, app);
    odata::entity(200, call.request, &APPLICATION, "directoryObjects", &options, item)
}

pub(crate) fn restore(call: &mut Call<'_>) -> Answer {
    let at = one_to_change(call)?;
    let visible_from = call.world.replicated_from();
    let directory = call.directory_mut();
    let (_, mut app) = directory.deleted_applications.remove(at);
    app.visible_from = visible_from;
    directory.applications.push(app.clone());
    restored(call, &app)
}

pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    let at = one_to_change(call)?;
    call.directory_mut().deleted_applications.remove(at);
    Ok(no_content())
}
