"""Small pictures in the page itself, each once."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from vsp.errors import DatasetError
from vsp.utils.images import open_rgb

_SIDE = 256  # pixels of the longer side
_QUALITY = 70  # of the JPEG, of 100


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of the page."""

    number: int  # among the addresses of `Thumbnails`
    width: int  # pixels of the picture that it is made of; boxes are in them
    height: int


@dataclass(slots=True)
class Thumbnails:
    """Pictures as `data:` addresses."""

    addresses: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], Thumbnail | str] = field(default_factory=dict)

    def add(self, path: str, sha256: str) -> Thumbnail | str:
        """The picture, or why there is none. `sha256` is that of the plan; empty: not known."""
        key = path, sha256
        if key not in self._known:
            try:
                self._known[key] = self._made(path, sha256)
            except DatasetError as error:
                self._known[key] = str(error)
        return self._known[key]

    def _made(self, path: str, sha256: str) -> Thumbnail:
        picture, found = open_rgb(path)
        if sha256 and found != sha256:
            raise DatasetError("the picture was changed since the run was planned")
        width, height = picture.size
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        file = BytesIO()
        picture.save(file, format="WEBP", quality=_QUALITY, method=4)
        self.addresses.append(
            f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        )
        return Thumbnail(len(self.addresses) - 1, width, height)
