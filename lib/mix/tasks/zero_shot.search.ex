defmodule Mix.Tasks.ZeroShot.Search do
  @shortdoc "Searches a folder of pictures by words or by a picture, or finds duplicates"

  @moduledoc """
  Searches the pictures of a folder by a text or by a picture, or finds duplicates.

      $ mix zero_shot.search photos "a red car"
      $ mix zero_shot.search photos --like car.jpg --top 20 --html cars.html
      $ mix zero_shot.search photos --duplicates --format csv > duplicates.csv
      $ mix zero_shot.search priv/samples "dog" --repo embedded

  A folder is searched with all folders in it, as by `mix zero_shot.classify`.

  The first search embeds all pictures, and keeps the result in the folder as `.zero_shot.index`:
  1 kB for a picture with ViT-B/32. Later searches embed only files that are new, or have another
  size or modification time, and forget files that are gone. The index is saved after each
  thousand new pictures, so an interruption costs little. An index that is damaged, or of another
  model, is built again. Where the folder cannot be written, the index goes to the user's cache
  directory, and a line says where. So it does where there is a link in its place, which is not followed.

  Pictures that cannot be read are reported on the standard error, and tried again by the next search. The
  index keeps the pictures of a folder that cannot be read. On a terminal the last line shows the
  progress.

  ## Flags

    * `--like FILE` - finds what is like this picture, instead of a text. The picture itself is left out
    * `--duplicates` - finds groups of pictures that are alike: copies, other sizes, series
    * `--top N` - at most N results. Defaults to 10. Duplicates are all shown
    * `--min-score SCORE` - leaves out results below this cosine, from -1 to 1. Defaults to 0.95 for
      `--duplicates`, and to none otherwise
    * `--format FORMAT` - `table`, `json` or `csv`. Defaults to `table`
    * `--html FILE` - also writes a page of thumbnails with scores, in one file that needs no network
    * `--index FILE` - keeps the index there. The name ends in `.index`. A file of another program is not
      replaced
    * `--template "a photo of {label}"` - the prompt made of the text. Defaults to only the text
    * `--repo MODEL` - another model: `org/name` on the Hugging Face Hub, a directory, or `embedded`
      for the small one in this library, which knows emoji and no photographs
    * `--device DEVICE` - `auto`, `cpu`, `cuda`, `cuda:1` or `mps`
    * `--precision PRECISION` - `f32`, `bf16`, `f16`, `int8` or `auto`: 16 bits where the device is faster with them

  ## Scores

  A score is a cosine. With OpenAI's models a text and a picture that fit have 0.25 to 0.35, two pictures
  of the same thing 0.8 and more, and copies 0.95 and more. So `--min-score` for a text has to be far lower
  than that for `--like`.

  ## Formats

  `table` is for people: the score and the path of each result, and an empty line between groups.

  `json` is JSON Lines, one object a line, ASCII only, with `"group"` only for duplicates:

      {"path":"photos/a.jpg","score":0.3125}
      {"group":1,"path":"photos/b.jpg","score":0.99}

  `csv` is as in RFC 4180, with the columns `path` and `score`, and `group` before them for duplicates. The
  score of a duplicate is the highest that it has with another picture of its group.
  """

  use Mix.Task

  alias Image.ZeroShot.CLI.{Search, Shell}

  @impl true
  def run([help | _]) when help in ["--help", "-h"],
    do: Mix.Task.run("help", ["zero_shot.search"])

  def run(argv), do: Shell.run(argv, &Search.run/2)
end
