# An endpoint without Phoenix: the bytes of a picture in, labels out.
#
#     elixir examples/plug_endpoint.exs
#     curl -T priv/samples/dog.jpg -X POST "http://127.0.0.1:4001/classify?labels=a%20cat,a%20dog"
#     curl http://127.0.0.1:4001/health
#
# The embedded model needs no network, but knows only emoji. `PORT=8080` takes another port.

Mix.install([
  {:image_zero_shot, path: Path.expand("..", __DIR__)},
  {:plug, "~> 1.15"},
  {:bandit, "~> 1.5"},
  {:jason, "~> 1.4"}
])

defmodule LabelPlug do
  @behaviour Plug

  import Plug.Conn

  require Logger

  @max_bytes 8_000_000
  @max_labels 50

  @bad_picture [:invalid_image, :unsupported_image, :image_too_large]
  @try_again [:overloaded, :timeout, :serving_down, :node_down]

  @impl true
  def init(opts), do: opts

  @impl true
  def call(%{method: "POST", path_info: ["classify"]} = conn, opts) do
    conn = fetch_query_params(conn)

    with {:ok, labels} <- labels(conn.query_params),
         {:ok, picture, conn} <- read_body(conn, length: @max_bytes),
         {:ok, results} <- Image.ZeroShot.try_classify(picture, labels, opts) do
      answer(conn, 200, %{results: results})
    else
      {:more, _part, conn} -> answer(conn, 413, %{error: :image_too_large})
      {:error, %Image.ZeroShot.Error{} = error} -> fail(conn, error)
      {:error, reason} -> answer(conn, 400, %{error: reason})
    end
  end

  # Computes nothing, and answers while the queue is full.
  def call(%{method: "GET", path_info: ["health"]} = conn, opts) do
    case Image.ZeroShot.info(opts) do
      {:ok, %{name: name, queue: queue}} ->
        answer(conn, 200, %{model: name, queue: queue.admitted})

      {:error, error} ->
        fail(conn, error)
    end
  end

  def call(conn, _opts), do: answer(conn, 404, %{error: :not_found})

  defp labels(%{"labels" => text}) when is_binary(text) do
    labels =
      for part <- String.split(text, ","), label = String.trim(part), label != "", do: label

    if length(labels) in 1..@max_labels, do: {:ok, Enum.uniq(labels)}, else: {:error, :labels}
  end

  defp labels(_params), do: {:error, :labels}

  # The message names paths and limits: it is for the log.
  defp fail(conn, %{reason: reason} = error) do
    Logger.warning("#{reason}: #{Exception.message(error)}")
    answer(conn, status(reason), %{error: reason})
  end

  defp status(reason) when reason in @bad_picture, do: 422
  defp status(:invalid_label), do: 400
  defp status(reason) when reason in @try_again, do: 503
  defp status(_reason), do: 500

  defp answer(conn, status, body) do
    conn = if status == 503, do: put_resp_header(conn, "retry-after", "2"), else: conn

    conn
    |> put_resp_content_type("application/json")
    |> send_resp(status, Jason.encode!(body))
  end
end

port = String.to_integer(System.get_env("PORT", "4001"))

{:ok, _supervisor} =
  Supervisor.start_link(
    [
      {Image.ZeroShot.Serving, name: MyApp.Clip, repo: :embedded, max_queue: 30},
      {Bandit, plug: {LabelPlug, serving: MyApp.Clip}, ip: {127, 0, 0, 1}, port: port}
    ],
    strategy: :one_for_one
  )

Process.sleep(:infinity)
