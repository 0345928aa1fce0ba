"""The chat template of a language model, made to show images."""

from __future__ import annotations

IMAGE = "<image>"
FLATTEN = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- set said = namespace(text='') -%}"
    "{%- if message['content'] is string -%}{%- set said.text = message['content'] -%}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set said.text = said.text + '" + IMAGE + "\\n' -%}"
    "{%- else -%}{%- set said.text = said.text + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- set flat.messages = flat.messages + [dict(message, content=said.text)] -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
"""Messages of parts become messages of one string, an image a line of its own, before the model's template sees them:
most templates of language models join strings."""
PLAIN = (
    "{%- for message in messages -%}{{ message['role'].upper() + ': ' + message['content'] + '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)
"""for a model that was never taught to chat"""


def with_images(template: str | None) -> str:
    """A template whose messages are strings, or none, as one that takes images among the parts of a message."""
    return FLATTEN + (template or PLAIN)
