defmodule Image.ZeroShot.CLI.Gallery do
  @moduledoc false

  # Results as one HTML file that needs no other: thumbnails with bars, to sort and to filter. It is written
  # picture by picture, so that any number takes the same memory.

  alias Image.ZeroShot.Error

  @template Path.join(__DIR__, "gallery.html")
  @external_resource @template
  [head, tail] = @template |> File.read!() |> String.split("{{pictures}}\n")
  @head head
  @tail tail

  @enforce_keys [:file, :target, :written]
  defstruct [:file, :target, :written]

  @type t :: %__MODULE__{file: :file.io_device(), target: Path.t(), written: Path.t()}

  @typedoc """
  A picture of the page: results best first, each with a score whose bar goes from 0 to 1; or an error.
  """
  @type result :: {:ok, [%{label: String.t(), score: float()}]} | {:error, Error.t()}

  @doc """
  Begins a page. It appears at `target` when it is finished, and not before.

  Raises an `Image.ZeroShot.Error` with the reason `:io` where a page cannot be written, as the functions below.
  """
  @spec start(Path.t(), String.t()) :: t()
  def start(target, title) do
    target = Path.expand(target)
    written = "#{target}.#{System.pid()}.part"

    with false <- File.dir?(target),
         {:ok, file} <- File.open(written, [:write, :raw, :delayed_write]) do
      page = %__MODULE__{file: file, target: target, written: written}
      write!(page, String.replace(@head, "{{title}}", escape(title)))
      page
    else
      true -> fail!(target, :eisdir)
      {:error, reason} -> fail!(target, reason)
    end
  end

  @doc """
  Adds a picture, with a thumbnail in JPEG if there is one.
  """
  @spec add(t(), Path.t(), binary() | nil, result()) :: :ok
  def add(page, path, thumbnail, result) do
    write!(page, [
      ["<article>", image(thumbnail), "<div class=\"about\"><h2><a href=\""],
      [link(path, page.target), "\">", escape(path), "</a></h2>", about(result)],
      "</div></article>\n"
    ])
  end

  @doc """
  Puts the page where it belongs.
  """
  @spec finish(t()) :: :ok
  def finish(page) do
    write!(page, @tail)

    with :ok <- File.close(page.file),
         :ok <- File.rename(page.written, page.target) do
      :ok
    else
      {:error, reason} -> fail!(page.target, reason)
    end
  end

  @doc """
  Removes what was written of a page that was not finished.
  """
  @spec abandon(t()) :: :ok
  def abandon(page) do
    _closed_already = File.close(page.file)
    _moved_already = File.rm(page.written)
    :ok
  end

  defp write!(page, html) do
    with {:error, reason} <- :file.write(page.file, html), do: fail!(page.target, reason)
  end

  defp fail!(target, reason) do
    raise %Error{
      reason: :io,
      message: "#{inspect(target)}: the page cannot be written: #{:file.format_error(reason)}"
    }
  end

  # The name beside it says what it is.
  defp image(nil), do: "<div class=\"none\"></div>"

  defp image(jpeg) do
    source = Base.encode64(jpeg)

    [
      "<img alt=\"\" width=\"96\" height=\"96\" loading=\"lazy\" decoding=\"async\" ",
      ["src=\"data:image/jpeg;base64,", source, "\">"]
    ]
  end

  defp about({:error, error}), do: ["<p>", escape(error.message), "</p>"]
  defp about({:ok, results}), do: ["<ol>", Enum.map(results, &bar/1), "</ol>"]

  defp bar(%{label: label, score: score}) do
    part = score |> max(0.0) |> min(1.0) |> Kernel.*(100) |> :erlang.float_to_binary(decimals: 1)
    label = escape(label)

    [
      ["<li style=\"--part:", part, "%\" data-label=\"", label],
      ["\" data-score=\"", Float.to_string(score), "\"><span>", label, "</span><span>"],
      [:erlang.float_to_binary(score, decimals: 3), "</span></li>"]
    ]
  end

  # The page can be sent elsewhere, where the links lead nowhere and the thumbnails still show.
  defp link(path, target) do
    path = Path.expand(path)

    path
    |> Path.relative_to(Path.dirname(target))
    |> then(&if(&1 == path, do: "file://" <> path, else: "./" <> &1))
    |> URI.encode(&(URI.char_unescaped?(&1) and &1 not in ~c"?#'\""))
  end

  defp escape(text), do: text |> readable() |> escape(<<>>)

  defp escape(<<?&, rest::binary>>, done), do: escape(rest, done <> "&amp;")
  defp escape(<<?<, rest::binary>>, done), do: escape(rest, done <> "&lt;")
  defp escape(<<?>, rest::binary>>, done), do: escape(rest, done <> "&gt;")
  defp escape(<<?", rest::binary>>, done), do: escape(rest, done <> "&quot;")
  defp escape(<<byte, rest::binary>>, done), do: escape(rest, <<done::binary, byte>>)
  defp escape(<<>>, done), do: done

  # Names of files are bytes.
  # Control characters, and those that turn the direction of text: with them "gpj.exe" looks like a picture.
  # Emoji are made with others of their kind.
  @unseen ~r/[\p{Cc}\x{61C}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2066}-\x{2069}]/u

  defp readable(text) do
    if String.valid?(text),
      do: String.replace(text, @unseen, "\uFFFD"),
      else: for(part <- String.chunk(text, :valid), into: "", do: valid(part))
  end

  defp valid(part), do: if(String.valid?(part), do: readable(part), else: "\uFFFD")
end
