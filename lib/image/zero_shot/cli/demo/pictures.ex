defmodule Image.ZeroShot.CLI.Demo.Pictures do
  @moduledoc false

  # The pictures of a folder under numbers: a page never names a file. A key beside each number changes with the
  # picture, so that a browser keeps what it was sent and never shows an old one.

  alias Image.ZeroShot.{Embedding, Error, Index}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.CLI.{Album, Thumbnails}

  # A strip is looked through by eye.
  @shown 60

  # Twice what a page shows, for screens with two pixels where others have one.
  @side 224

  @enforce_keys [:folder, :index, :ids, :numbers]
  defstruct [:folder, :index, :ids, :numbers]

  @type t :: %__MODULE__{
          folder: Path.t(),
          index: Index.t(),
          ids: tuple(),
          numbers: %{optional(Index.id()) => non_neg_integer()}
        }

  @typedoc "What a page knows of a picture."
  @type shown :: %{
          required(:path) => String.t(),
          required(:name) => String.t(),
          optional(:score) => float()
        }

  @spec new(Path.t(), Index.t()) :: t()
  def new(folder, index) do
    ids = index |> Index.ids() |> Enum.sort()

    %__MODULE__{
      folder: folder,
      index: index,
      ids: List.to_tuple(ids),
      numbers: ids |> Enum.with_index() |> Map.new()
    }
  end

  @spec count(t()) :: non_neg_integer()
  def count(pictures), do: tuple_size(pictures.ids)

  @doc """
  The first pictures.
  """
  @spec first(t()) :: [shown()]
  def first(pictures) do
    for {id, number} <- pictures.ids |> Tuple.to_list() |> Enum.take(@shown) |> Enum.with_index(),
        do: shown(pictures, id, number)
  end

  @doc """
  The pictures most like a text or an embedding.
  """
  @spec nearest(t(), {:text, String.t()} | Embedding.t(), keyword()) ::
          {:ok, [shown()]} | {:error, Error.t()}
  def nearest(pictures, query, opts) do
    # An embedding needs no model.
    opts = if match?({:text, _text}, query), do: opts, else: []

    with {:ok, found} <- Index.nearest(pictures.index, query, [k: @shown] ++ opts) do
      {:ok,
       for(
         %{id: id, score: score} <- found,
         do: pictures |> shown(id, pictures.numbers[id]) |> Map.put(:score, score)
       )}
    end
  end

  defp shown(pictures, {name, _size, _time} = id, number),
    do: %{path: "#{number}-#{key(pictures, id)}", name: name}

  defp key(pictures, id), do: {pictures.folder, id} |> :erlang.phash2() |> Integer.to_string(36)

  @doc """
  The file of a picture by its number and key.
  """
  @spec find(t(), String.t()) :: {:ok, Path.t()} | :error
  def find(pictures, path) do
    with [number, key] <- String.split(path, "-"),
         {number, ""} when number in 0..(tuple_size(pictures.ids) - 1)//1 <-
           Integer.parse(number),
         id = elem(pictures.ids, number),
         ^key <- key(pictures, id) do
      {:ok, Album.path(pictures.folder, id)}
    else
      _no_such_picture -> :error
    end
  end

  @doc """
  A thumbnail as JPEG.
  """
  @spec thumbnail(Path.t()) :: {:ok, binary()} | {:error, Error.t()}
  def thumbnail(path), do: Thumbnails.jpeg({:path, path}, Options.embed!(decode: :fast), @side)
end
