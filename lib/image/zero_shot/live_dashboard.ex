defmodule Image.ZeroShot.LiveDashboard do
  @moduledoc """
  A page for Phoenix LiveDashboard that shows what `Image.ZeroShot.info/1` returns.

  Define it in your application, with the options of `Image.ZeroShot.info/1`:

      # lib/my_app_web/clip_page.ex
      defmodule MyAppWeb.ClipPage do
        use Image.ZeroShot.LiveDashboard, serving: MyApp.Clip
      end

  and add it to the dashboard's route:

      # lib/my_app_web/router.ex
      live_dashboard "/dashboard",
        metrics: MyAppWeb.Telemetry,
        additional_pages: [clip: MyAppWeb.ClipPage]

  The page asks the node that is chosen in the dashboard. If that node has no serving of that name, it
  answers for a serving on another node that its calls go to.

  LiveDashboard is not a dependency of this library: your application has to have it. Otherwise
  `use` raises an `ArgumentError`.
  """

  alias Image.ZeroShot.Error

  # A node that hangs must not take the page along.
  @patience_ms 5_000

  defmacro __using__(opts) do
    unless Code.ensure_loaded?(Phoenix.LiveDashboard.PageBuilder) do
      raise ArgumentError,
            "expected Phoenix LiveDashboard to be there; " <>
              ~s(add {:phoenix_live_dashboard, "~> 0.8"} to your dependencies)
    end

    quote do
      use Phoenix.LiveDashboard.PageBuilder

      @impl true
      def menu_link(_session, _capabilities), do: {:ok, "Image.ZeroShot"}

      @impl true
      def render(var!(assigns)) do
        cards = unquote(__MODULE__).cards(var!(assigns).page.node, unquote(opts))
        var!(assigns) = assign(var!(assigns), cards: cards)

        ~H"""
        <div class="row">
          <div :for={card <- @cards} class="col-sm-4">
            <.fields_card title={card.title} fields={card.fields} />
          </div>
        </div>
        """
      end
    end
  end

  @typedoc false
  @type card :: %{title: String.t(), fields: [{String.t(), String.t()}, ...]}

  @doc false
  @spec cards(node(), keyword()) :: [card(), ...]
  def cards(node, opts) do
    case :rpc.call(node, Image.ZeroShot, :info, [opts], @patience_ms) do
      {:ok, info} -> cards(info)
      {:error, error} -> [card("No serving", Map.take(error, [:reason, :message]))]
      {:badrpc, reason} -> [card("No answer", %{node: node, reason: reason})]
    end
  end

  defp cards(info) do
    {state, model} = Map.split(info, [:state, :last_error, :retry_in, :node])

    [
      card("State", state),
      card("Queue", info.queue),
      card("Batches since loading", info.batches),
      card("Decoding", info.decoding),
      card("Prompts in the cache", info.text_cache),
      card("Model", Map.drop(model, [:queue, :batches, :decoding, :text_cache]))
    ]
  end

  defp card(title, facts) do
    fields = for {name, value} <- Enum.sort(facts), do: {"#{name}", shown(value)}
    %{title: title, fields: fields}
  end

  defp shown(nil), do: "–"
  defp shown(%Error{} = error), do: Exception.message(error)
  defp shown(text) when is_binary(text), do: text
  defp shown(other), do: inspect(other)
end
