"""What a contract marks `debug_redact` is shown to nobody."""

from __future__ import annotations

from google.protobuf.message import Message


def clear_secrets(message: Message) -> None:
    """Clear the fields of *message* that its contract marks `debug_redact`, however deep."""
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            message.ClearField(field.name)
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type:
                for part in value.values():
                    clear_secrets(part)
        else:
            for part in value if field.is_repeated else [value]:
                clear_secrets(part)
