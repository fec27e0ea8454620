defmodule Image.ZeroShot.CLI.Demo.Routes do
  @moduledoc false

  # What the server answers. Nothing is kept between two requests: the page holds the embedding of its picture and
  # sends it along, so a handler that is killed, or a server that starts again, loses nothing.
  #
  # The body of every call is one line of form fields, and behind it the bytes of a picture if there is one. That
  # is read with `URI.query_decoder/1`, where JSON or multipart would take a parser of our own.

  alias Image.ZeroShot
  alias Image.ZeroShot.{Embedding, Error}
  alias Image.ZeroShot.CLI.Demo.{Connection, Pictures, Request}
  alias Image.ZeroShot.CLI.{Flags, JSON}
  alias Image.ZeroShot.Picture.Reader

  @max_labels 200
  @max_picture 25_000_000
  @read_ms 15_000
  # An embedding, and as many labels as there may be.
  @max_fields 500_000

  @types %{
    ".html" => "text/html; charset=utf-8",
    ".css" => "text/css; charset=utf-8",
    ".js" => "text/javascript; charset=utf-8",
    ".svg" => "image/svg+xml"
  }

  # What the page calls ways to score.
  @scores %{
    "shares" => [],
    "alone" => [multi_label: true],
    "cosines" => [scores: :cosine]
  }

  # Reasons that pass.
  @later [:overloaded, :timeout, :serving_down, :model_unloaded, :node_down, :index_down]

  @enforce_keys [:opts, :info, :explains, :labels, :template, :pictures]
  defstruct [:opts, :info, :explains, :labels, :template, :pictures]

  @typedoc "The model by its options and facts, whether it explains its scores, and what the page begins with."
  @type t :: %__MODULE__{
          opts: keyword(),
          info: ZeroShot.info(),
          explains: boolean(),
          labels: [String.t()],
          template: String.t(),
          pictures: Pictures.t()
        }

  @spec new(t()) :: Connection.routes()
  def new(demo) do
    files = files()
    fn method, path -> route(method, path, demo, files) end
  end

  # The page, read once. No name in a request becomes the name of a file.
  defp files do
    folder = Application.app_dir(:image_zero_shot, "priv/demo")

    for name <- File.ls!(folder), type = @types[Path.extname(name)], into: %{} do
      path = if name == "index.html", do: "/", else: "/" <> name
      {path, {type, folder |> Path.join(name) |> File.read!()}}
    end
  end

  defp route(method, path, demo, files) do
    case Map.fetch(files, path) do
      {:ok, {type, bytes}} -> get(method, fn _request -> {200, type, [], bytes} end)
      :error -> call(method, path, demo)
    end
  end

  defp call(method, "/state", demo), do: get(method, fn _request -> json(state(demo)) end)

  defp call(method, "/thumbnails/" <> picture, demo),
    do: get(method, fn _request -> thumbnail(demo, picture) end)

  defp call(method, "/pictures/" <> picture, demo),
    do: get(method, fn _request -> file(demo, picture) end)

  defp call(method, "/embed", demo),
    do: post(method, @max_picture + @max_fields, &embed(demo, &1))

  defp call(method, "/explain", demo),
    do: post(method, @max_picture + @max_fields, &explain(demo, &1))

  defp call(method, "/classify", demo), do: post(method, @max_fields, &classify(demo, &1))
  defp call(method, "/search", demo), do: post(method, @max_fields, &search(demo, &1))
  defp call(_method, _path, _demo), do: :not_found

  defp get(method, run) when method in ~w(GET HEAD), do: {:ok, 0, run}
  defp get(_method, _run), do: {:methods, ~w(GET HEAD)}

  # A mistake of the caller's is found where it is used.
  defp post("POST", max_body, run), do: {:ok, max_body, &(&1 |> parts() |> answer(run))}
  defp post(_method, _max_body, _run), do: {:methods, ~w(POST)}

  defp answer({:ok, parts}, run) do
    case run.(parts) do
      {:ok, found} -> json(found)
      {:error, %Error{} = error} -> failed(error)
      {:wrong, message} -> Connection.refused(400, message, "wrong")
    end
  end

  defp answer({:wrong, message}, _run), do: Connection.refused(400, message, "wrong")

  defp json(value), do: {200, "application/json", [], JSON.encode(value)}

  defp failed(error) do
    status = if error.reason in @later, do: 503, else: 422
    Connection.refused(status, error.message, to_string(error.reason))
  end

  @typep parts :: %{fields: [{String.t(), String.t()}], picture: binary()}

  @spec parts(Request.t()) :: {:ok, parts()} | {:wrong, String.t()}
  defp parts(request) do
    [line | picture] = String.split(request.body, "\n", parts: 2)

    if String.valid?(line),
      do:
        {:ok,
         %{fields: line |> URI.query_decoder() |> Enum.to_list(), picture: Enum.join(picture)}},
      else: {:wrong, "expected a line of form fields before the picture"}
  rescue
    ArgumentError -> {:wrong, "expected a line of form fields before the picture"}
  end

  defp values(parts, name), do: for({^name, value} <- parts.fields, do: value)
  defp value(parts, name), do: parts |> values(name) |> List.first()

  defp state(demo) do
    %{
      model: Map.take(demo.info, [:name, :device, :dim, :image_size]),
      explains: demo.explains,
      labels: demo.labels,
      template: demo.template,
      pictures: Pictures.first(demo.pictures),
      count: Pictures.count(demo.pictures),
      max_bytes: @max_picture,
      max_labels: @max_labels
    }
  end

  defp embed(demo, parts) do
    with :ok <- sent(parts.picture),
         {:ok, embedding, ms} <- timed(fn -> ZeroShot.try_embed(parts.picture, demo.opts) end),
         do: {:ok, %{embedding: embedding |> Embedding.to_binary() |> Base.encode64(), ms: ms}}
  end

  defp sent(""), do: {:wrong, "expected the bytes of a picture"}
  defp sent(_picture), do: :ok

  defp classify(demo, parts) do
    with {:ok, embedding} <- embedding(parts),
         {:ok, labels} <- labels(parts),
         {:ok, opts} <- scoring(parts),
         {:ok, results, ms} <-
           timed(fn -> ZeroShot.try_classify(embedding, labels, opts ++ demo.opts) end),
         do: {:ok, %{results: results, ms: ms}}
  end

  defp explain(demo, parts) do
    with :ok <- sent(parts.picture),
         {:ok, labels} <- labels(parts),
         {:ok, opts} <- scoring(parts),
         {:ok, maps, ms} <-
           timed(fn -> ZeroShot.try_explain(parts.picture, labels, opts ++ demo.opts) end),
         do: {:ok, %{maps: Enum.map(maps, &map/1), ms: ms}}
  end

  defp map(explanation) do
    explanation
    |> Map.take([:label, :contrast, :explained])
    |> Map.merge(%{box: Tuple.to_list(explanation.box), size: Tuple.to_list(explanation.size)})
  end

  defp embedding(parts) do
    with text when is_binary(text) <- value(parts, "embedding"),
         {:ok, binary} <- Base.decode64(text) do
      Embedding.from_binary(binary)
    else
      _none -> {:wrong, "expected an embedding, as base64"}
    end
  end

  defp labels(parts) do
    labels = values(parts, "label")

    if length(labels) <= @max_labels,
      do: {:ok, labels},
      else: {:wrong, "expected at most #{@max_labels} labels, got #{length(labels)}"}
  end

  # What the labels are compared with, and how.
  defp scoring(parts) do
    other = values(parts, "other")
    template = Flags.template_named(value(parts, "template") || "{label}")
    scores = value(parts, "scores") || "shares"

    cond do
      length(other) > @max_labels ->
        {:wrong, "expected at most #{@max_labels} prompts of none of these"}

      is_binary(template) and not (template =~ "{label}") ->
        {:wrong, "expected a template with {label} in it"}

      not is_map_key(@scores, scores) ->
        {:wrong, "expected the scores to be #{Enum.join(Map.keys(@scores), ", ")}"}

      true ->
        background = if other == [], do: [], else: [other: other]
        {:ok, [template: template] ++ @scores[scores] ++ background}
    end
  end

  defp search(demo, parts) do
    with {:ok, query} <- query(parts),
         {:ok, found, ms} <- timed(fn -> Pictures.nearest(demo.pictures, query, demo.opts) end),
         do: {:ok, %{pictures: found, ms: ms}}
  end

  defp query(parts) do
    case value(parts, "text") do
      nil -> embedding(parts)
      text -> {:ok, {:text, text}}
    end
  end

  defp timed(work) do
    {microseconds, result} = :timer.tc(work)
    with {:ok, value} <- result, do: {:ok, value, microseconds / 1_000}
  end

  # The key in the address changes with the picture.
  @kept [{"Cache-Control", "private, max-age=3600"}]

  defp thumbnail(demo, picture) do
    with {:ok, path} <- Pictures.find(demo.pictures, picture),
         {:ok, jpeg} <- Pictures.thumbnail(path) do
      {200, "image/jpeg", @kept, jpeg}
    else
      :error -> missing()
      {:error, error} -> failed(error)
    end
  end

  defp file(demo, picture) do
    with {:ok, path} <- Pictures.find(demo.pictures, picture),
         {:ok, {:encoded, bytes}} <- Reader.read(path, @max_picture, @read_ms) do
      {200, type(bytes), @kept, bytes}
    else
      _missing -> missing()
    end
  end

  defp missing,
    do:
      Connection.refused(
        404,
        "this picture is no longer in the strip; reload the page",
        "not_found"
      )

  defp type(<<0xFF, 0xD8, _::binary>>), do: "image/jpeg"
  defp type(<<0x89, "PNG", _::binary>>), do: "image/png"
  defp type(<<"RIFF", _::32, "WEBP", _::binary>>), do: "image/webp"
  defp type(<<"GIF8", _::binary>>), do: "image/gif"
  defp type(<<"BM", _::binary>>), do: "image/bmp"
  defp type(_bytes), do: "application/octet-stream"
end
