defmodule Image.ZeroShot.Call.Templates do
  @moduledoc false

  # Lists of prompt templates by name, written by the authors of CLIP for ImageNet
  # (`notebooks/Prompt_Engineering_for_ImageNet.ipynb` in github.com/openai/CLIP), in the order and
  # with the words that open_clip has them (`OPENAI_IMAGENET_TEMPLATES` and
  # `SIMPLE_IMAGENET_TEMPLATES` in its `zero_shot_metadata.py`). The short one is the seven that
  # the notebook found to do nearly as well together as all 80.

  @openai_imagenet [
    "a bad photo of a {label}.",
    "a photo of many {label}.",
    "a sculpture of a {label}.",
    "a photo of the hard to see {label}.",
    "a low resolution photo of the {label}.",
    "a rendering of a {label}.",
    "graffiti of a {label}.",
    "a bad photo of the {label}.",
    "a cropped photo of the {label}.",
    "a tattoo of a {label}.",
    "the embroidered {label}.",
    "a photo of a hard to see {label}.",
    "a bright photo of a {label}.",
    "a photo of a clean {label}.",
    "a photo of a dirty {label}.",
    "a dark photo of the {label}.",
    "a drawing of a {label}.",
    "a photo of my {label}.",
    "the plastic {label}.",
    "a photo of the cool {label}.",
    "a close-up photo of a {label}.",
    "a black and white photo of the {label}.",
    "a painting of the {label}.",
    "a painting of a {label}.",
    "a pixelated photo of the {label}.",
    "a sculpture of the {label}.",
    "a bright photo of the {label}.",
    "a cropped photo of a {label}.",
    "a plastic {label}.",
    "a photo of the dirty {label}.",
    "a jpeg corrupted photo of a {label}.",
    "a blurry photo of the {label}.",
    "a photo of the {label}.",
    "a good photo of the {label}.",
    "a rendering of the {label}.",
    "a {label} in a video game.",
    "a photo of one {label}.",
    "a doodle of a {label}.",
    "a close-up photo of the {label}.",
    "a photo of a {label}.",
    "the origami {label}.",
    "the {label} in a video game.",
    "a sketch of a {label}.",
    "a doodle of the {label}.",
    "a origami {label}.",
    "a low resolution photo of a {label}.",
    "the toy {label}.",
    "a rendition of the {label}.",
    "a photo of the clean {label}.",
    "a photo of a large {label}.",
    "a rendition of a {label}.",
    "a photo of a nice {label}.",
    "a photo of a weird {label}.",
    "a blurry photo of a {label}.",
    "a cartoon {label}.",
    "art of a {label}.",
    "a sketch of the {label}.",
    "a embroidered {label}.",
    "a pixelated photo of a {label}.",
    "itap of the {label}.",
    "a jpeg corrupted photo of the {label}.",
    "a good photo of a {label}.",
    "a plushie {label}.",
    "a photo of the nice {label}.",
    "a photo of the small {label}.",
    "a photo of the weird {label}.",
    "the cartoon {label}.",
    "art of the {label}.",
    "a drawing of the {label}.",
    "a photo of the large {label}.",
    "a black and white photo of a {label}.",
    "the plushie {label}.",
    "a dark photo of a {label}.",
    "itap of a {label}.",
    "graffiti of the {label}.",
    "a toy {label}.",
    "itap of my {label}.",
    "a photo of a cool {label}.",
    "a photo of a small {label}.",
    "a tattoo of the {label}."
  ]

  @simple_imagenet [
    "itap of a {label}.",
    "a bad photo of the {label}.",
    "a origami {label}.",
    "a photo of the large {label}.",
    "a {label} in a video game.",
    "art of the {label}.",
    "a photo of the small {label}."
  ]

  @placeholder "{label}"

  @lists %{openai_imagenet: @openai_imagenet, simple_imagenet: @simple_imagenet}

  @expected "nil, a string that contains #{@placeholder} such as \"a photo of #{@placeholder}\", a list of those or one of " <>
              Enum.map_join(Map.keys(@lists), ", ", &inspect/1)

  @spec names() :: [atom()]
  def names, do: Map.keys(@lists)

  @doc """
  The templates that a `:template` option names. `nil` is the label itself.
  """
  @spec cast(term()) :: {:ok, [String.t() | nil, ...]} | :error
  def cast([_ | _] = templates) do
    if not List.improper?(templates) and Enum.all?(templates, &template?/1),
      do: {:ok, templates},
      else: :error
  end

  def cast(name) when is_atom(name) and name != nil, do: Map.fetch(@lists, name)
  def cast(template), do: if(template?(template), do: {:ok, [template]}, else: :error)

  @doc """
  What `cast/1` takes, for an error message.
  """
  @spec expected() :: String.t()
  def expected, do: @expected

  @doc """
  The prompts that templates make of a label.
  """
  @spec prompts([String.t() | nil, ...], String.t()) :: [String.t(), ...]
  def prompts(templates, label), do: Enum.map(templates, &prompt(&1, label))

  defp prompt(nil, label), do: label
  defp prompt(template, label), do: String.replace(template, @placeholder, label)

  defp template?(nil), do: true

  defp template?(template),
    do: is_binary(template) and String.valid?(template) and template =~ @placeholder
end
