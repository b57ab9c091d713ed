"""The page "Use via API": descriptions of all parameters and results, and snippets that run.

gradio knows the parameters of `gr.api` by type and number only. The rest is in the docstring of the endpoint, with one
line for each parameter in the section "Args" and one for each result in "Returns", such as
`start: Start of the part, in seconds.`
"""

from typing import Any, cast

import gradio as gr
from gradio.utils import get_function_description


EXAMPLE_FILE = "in.mp4"  # in the snippets; the user's own video
# gradio writes handle_file('in.mp4') for such a value.
EXAMPLE_VALUE = {"path": EXAMPLE_FILE, "url": EXAMPLE_FILE, "meta": {"_type": "gradio.FileData"}}


class DocumentedBlocks(gr.Blocks):
    """`gr.Blocks` whose endpoints are documented by their docstrings."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Return what gradio shows to clients, with the descriptions."""
        info = cast(dict[str, Any], super().get_api_info(all_endpoints, page))
        functions = {f"/{function.api_name}": function.fn for function in self.fns.values()}
        for name, endpoint in info["named_endpoints"].items():
            describe_endpoint(endpoint, functions[name])
        return info


def describe_endpoint(endpoint: dict[str, Any], function: Any) -> None:
    """Add names, descriptions and an example file.

    Args:
        endpoint (`dict[str, Any]`): gradio's information about the endpoint; it is changed.
        function (`Callable`): The function of the endpoint.
    """
    _, descriptions, results = get_function_description(function)
    for parameter in endpoint["parameters"]:
        name = parameter["parameter_name"]
        parameter["label"] = name
        about, default = parameter["python_type"], parameter["parameter_default"]
        about["description"] = descriptions[name]
        if isinstance(default, str) and about["type"] != "str":
            # Without this, the snippets have the text without quotes.
            others = [kind for kind in about["type"].split(" | ") if kind != "str"]
            about["type"] = " | ".join([f"Literal['{default}']", *others])
        if is_file(parameter["type"]):
            # The snippets upload a file for a component of this kind.
            parameter["component"], parameter["example_input"] = "Video", EXAMPLE_VALUE
    for value, line in zip(endpoint["returns"], results, strict=True):
        value["label"], description = line.split(": ", 1)
        value["python_type"]["description"] = description


def is_file(schema: dict[str, Any]) -> bool:
    """Whether the JSON schema of a parameter is that of an uploaded file."""
    return bool(schema.get("title") == "FileData" or "gradio.FileData" in str(schema))
